-- Give out tasks again.
-- KEYS: queue, state, waiting, tenants
local was_paused = end_pause()
dispatch()
return was_paused
