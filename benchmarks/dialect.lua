-- wrk's script: sends the requests of a plan in turn and counts answers that are not 200. PLAN: a Lua file that returns
--   { path = ..., headers = { ... }, files = { ... } }

local plan = dofile(os.getenv("PLAN"))
local requests, cursor = {}, 0

function init(args)
   for name, value in pairs(plan.headers) do
      wrk.headers[name] = value
   end

   for _, file in ipairs(plan.files) do
      local opened = assert(io.open(file, "rb"))
      table.insert(requests, wrk.format("POST", plan.path, wrk.headers, opened:read("*a")))
      opened:close()
   end
end

function request()
   cursor = cursor % #requests + 1
   return requests[cursor]
end

function done(summary, latency)
   local report = assert(io.open(os.getenv("REPORT"), "w"))
   report:write(string.format('{"seconds": %.6f, "answers": %d, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
      summary.duration / 1e6, summary.requests, summary.errors.status, latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3))
   report:close()
end
