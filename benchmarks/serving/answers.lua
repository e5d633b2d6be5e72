-- wrk's script: sends several pictures in turn, and looks at every answer. BENCH_PLAN: a Lua file that returns
--   { path = ..., content_type = ..., groups = { { label = ..., files = { ... } }, ... } }
-- Answers come without saying what they answer. Where there are several threads, each therefore sends pictures of one
-- label only; a single connection gets its answers in order, and its thread sends all pictures.
-- BENCH_REPORT: the JSON file to write. BENCH_ALONE: 1 where there is a single connection.

local threads = {}

function setup(thread)
   table.insert(threads, thread)
   thread:set("number", #threads)
end

local requests, labels, cursor = {}, {}, 0

function init(args)
   local plan = dofile(os.getenv("BENCH_PLAN"))
   local alone = os.getenv("BENCH_ALONE") == "1"
   sent, answered, wrong, failed, example = 0, 0, 0, 0, ""
   wrk.headers["Content-Type"] = plan.content_type
   for index, group in ipairs(plan.groups) do
      if alone or index == number then
         for _, file in ipairs(group.files) do
            local opened = assert(io.open(file, "rb"))
            table.insert(requests, wrk.format("POST", plan.path, wrk.headers, opened:read("*a")))
            table.insert(labels, group.label)
            opened:close()
         end
      end
   end
end

function request()
   cursor = cursor % #requests + 1
   sent = sent + 1
   return requests[cursor]
end

function response(status, headers, body)
   answered = answered + 1
   if status ~= 200 then
      failed = failed + 1
      example = status .. " " .. body:sub(1, 200)
   elseif body:match('"label"%s*:%s*"(.-)"') ~= labels[cursor] then
      wrong = wrong + 1
      example = "expected " .. labels[cursor] .. ", got " .. body:sub(1, 200)
   end
end

local function quoted(text)
   return '"' .. text:gsub('[%c"\\\128-\255]', function(byte) return string.format("\\u%04x", byte:byte()) end) .. '"'
end

function done(summary, latency)
   local total = { sent = 0, answered = 0, wrong = 0, failed = 0 }
   local seen = ""
   for _, thread in ipairs(threads) do
      for name in pairs(total) do
         total[name] = total[name] + thread:get(name)
      end
      if thread:get("example") ~= "" then
         seen = thread:get("example")
      end
   end
   local errors = summary.errors
   local report = assert(io.open(os.getenv("BENCH_REPORT"), "w"))
   report:write(string.format(
      '{"duration_s": %.6f, "sent": %d, "answered": %d, "wrong": %d, "failed": %d, "example": %s, ' ..
      '"connect": %d, "read": %d, "write": %d, "timeout": %d, ' ..
      '"p50_ms": %.3f, "p95_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
      summary.duration / 1e6, total.sent, total.answered, total.wrong, total.failed, quoted(seen),
      errors.connect, errors.read, errors.write, errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
   report:close()
end
