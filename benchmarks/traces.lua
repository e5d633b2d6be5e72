-- For wrk: posts one picture to /classify as fast as answers come, with a traceparent where TRACEPARENT says one.
local file = assert(io.open(os.getenv("PICTURE"), "rb"))
wrk.method = "POST"
wrk.path = "/classify"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "image/png"
if os.getenv("TRACEPARENT") ~= "" then wrk.headers["traceparent"] = os.getenv("TRACEPARENT") end

function done(summary)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.stdout:write(string.format("\n%d %d %d\n", summary.requests, failed, summary.duration))
end
