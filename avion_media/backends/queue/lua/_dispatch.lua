-- Fair dispatch, prepended to every script that moves tasks. The first four keys are always the same:
-- queue (stream): leased tasks, and a short runway of tasks that readers take next.
-- state (hash): see `QueueKeys` in entries.py.
-- waiting (sorted set, ordered by member): the backlog. A member is tenant, NUL, time of the task, number, the entry.
-- tenants (sorted set): every tenant that has waiting tasks, by its next turn; and for a while those that had one.
local queue, state, waiting, tenants = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- Not among the keys: it might not exist, and while a cluster moves a slot, a script waits until all of its keys are on one
-- node. It is in the queue's slot.
local dead_letters = '{' .. queue .. '}:dlq'

local RUNWAY = 8 -- undelivered entries: enough for readers that take one each at the same moment, and soon taken
-- A tenant's score is the virtual time of its next turn, in the range of its phase and of its lane. It is ready for that
-- turn; or it rests, because it is parked or at its cap; or it is drained: it has no waiting task, but may add one before then.
local READY, RESTING, DRAINED, NEVER = 0, 4e15, 8e15, 9e15
local IMAGE_LANE, VIDEO_LANE, MOST_TURNS = 0, 1e13, 1e12
local MOST_EMPTY = 100 -- tenants without tasks, and members of the index without a dead letter, that one script removes
local MOST_STALE = 1000 -- such members, beside as many as there are dead letters

local CLOCK_MS = 10 -- two readings of the clock within this time can be in either order

-- Settings of the queue, its virtual time and how many videos it works on, read once per script.
local read_settings
local function settings()
  if not read_settings then
    local found = redis.call('HMGET', state, 'turn', 'paused', 'tenant_cap', 'video_cap', 'videos')
    if not found[1] then
      -- While a cluster moves a slot, a script waits for keys that do not exist. So all four always exist.
      redis.call('HSET', state, 'turn', 0)
      redis.call('ZADD', waiting, 0, '')
      redis.call('ZADD', tenants, NEVER, '')
    end
    read_settings = {
      turn = tonumber(found[1] or 0), paused = found[2], tenant_cap = tonumber(found[3] or 0),
      video_cap = tonumber(found[4] or 0), videos = tonumber(found[5] or 0),
    }
  end
  return read_settings
end

-- Return how many fields of a pause there were.
local function end_pause()
  redis.call('DEL', '{' .. queue .. '}:paused')
  read_settings = nil
  return redis.call('HDEL', state, 'paused', 'paused_by', 'paused_note', 'paused_until')
end

-- Host and port of a URL, as `parse_remote_url` writes it. A URL that another service wrote is split in the same way.
local function server_of(url)
  local authority = string.match(url, '^%a[%w+.-]*://([^/?#]*)') or ''
  return string.lower(string.match(authority, '([^@]*)$'))
end

local function is_video(media_id)
  local high = string.find(ALPHABET, string.sub(media_id, 11, 11), 1, true)
  local low = string.find(ALPHABET, string.sub(media_id, 12, 12), 1, true)
  return #media_id == 26 and high and low
    and string.find(VIDEO_CODES, string.format(' %d ', (high - 1) * 8 + math.floor((low - 1) / 4)), 1, true)
end

-- The tenant of a task: its owner, else its caller. For remote media it is the server, because each server has a circuit
-- breaker. Videos and audio have a lane of their own.
local function tenant_of(fields)
  local named = {}
  for index = 1, #fields, 2 do
    named[fields[index]] = named[fields[index]] or fields[index + 1]
  end
  local tenant = named.remote_url and server_of(named.remote_url) or named.owner or named.tenant or ''
  tenant = tenant == '' and '*' or string.gsub(string.sub(tenant, 1, 128), '%z', '?')
  if queue ~= LANED then
    return tenant
  end
  return (is_video(named.media_id or '') and 'video/' or 'image/') .. tenant
end

local function in_video_lane(tenant)
  return queue == LANED and string.sub(tenant, 1, 6) == 'video/'
end

-- Whether it matters how many tasks a tenant runs: then its entries are on its account.
local function is_bounded(tenant)
  return settings().tenant_cap > 0 or in_video_lane(tenant)
end

local function count(tenant, by)
  local running = redis.call('HINCRBY', state, 'running:' .. tenant, by)
  if running <= 0 then
    redis.call('HDEL', state, 'running:' .. tenant)
  end
  if in_video_lane(tenant) then
    settings().videos = redis.call('HINCRBY', state, 'videos', by)
    if settings().videos <= 0 then
      redis.call('HDEL', state, 'videos')
    end
  end
  return running
end

local function running_of(tenant)
  return tonumber(redis.call('HGET', state, 'running:' .. tenant) or 0)
end

local function is_at_cap(running)
  local cap = settings().tenant_cap
  return cap > 0 and running >= cap
end

local function is_lane_full()
  local cap = settings().video_cap
  return cap > 0 and settings().videos >= cap
end

local function has_no_slot(tenant)
  return settings().tenant_cap > 0 and is_at_cap(running_of(tenant)) or in_video_lane(tenant) and is_lane_full()
end

local function lane_of(tenant)
  return in_video_lane(tenant) and VIDEO_LANE or IMAGE_LANE
end

local function place(tenant, phase, turn)
  redis.call('ZADD', tenants, phase + lane_of(tenant) + turn, tenant)
end

-- The phase of a tenant, and its next turn.
local function phase_of(tenant)
  local score = tonumber(redis.call('ZSCORE', tenants, tenant) or DRAINED)
  local phase = score >= DRAINED and DRAINED or score >= RESTING and RESTING or READY
  return phase, math.max(0, score - phase - lane_of(tenant))
end

-- The tenant of a lane that has the next turn, and its time.
local function first_of(lane)
  local found = redis.call('ZRANGE', tenants, lane, '(' .. string.format('%.0f', lane + MOST_TURNS), 'BYSCORE', 'LIMIT', 0, 1,
    'WITHSCORES')
  return found[1], found[1] and tonumber(found[2]) - lane
end

-- The virtual time of a lane. While the lane of videos is full, time passes for images only: a video that joins them must not
-- wait until they have caught up.
local function time_of(lane)
  if lane == IMAGE_LANE then
    return settings().turn
  end
  local _, turn = first_of(lane)
  return math.min(turn or settings().turn, settings().turn)
end

-- Let a tenant have its next turn, but no turn that has passed. It rests while it is parked or at its cap.
local function readmit(tenant, turn)
  local found = redis.call('HMGET', state, 'running:' .. tenant, 'parked:' .. tenant)
  local is_parked = found[2] and tonumber(found[2]) > now_s()
  if found[2] and not is_parked then
    redis.call('HDEL', state, 'parked:' .. tenant)
  end
  if is_parked or is_at_cap(tonumber(found[1] or 0)) then
    place(tenant, RESTING, turn)
  else
    place(tenant, READY, math.max(turn, time_of(lane_of(tenant))))
  end
end

local function value_of(fields, name)
  for index = 1, #fields, 2 do
    if fields[index] == name then
      return fields[index + 1]
    end
  end
end

-- Append a dead letter, and write it into the index under its subject: see task_scan.py. A dead letter that is replayed, dropped
-- or trimmed leaves its member behind; some members are looked at whenever there are too many.
local function append_dead_letter(fields, subject)
  local id, index = append(dead_letters, fields, MAX_DEAD_LETTERS), dead_letters .. '_index'
  if subject and subject ~= '' then
    redis.call('ZADD', index, 0, subject .. '\0' .. id)
  end
  if redis.call('ZCARD', index) <= 2 * redis.call('XLEN', dead_letters) + MOST_STALE then
    return
  end
  for _, member in ipairs(redis.call('ZRANDMEMBER', index, MOST_EMPTY)) do
    local letter = string.match(member, '%z(.*)$')
    if #redis.call('XRANGE', dead_letters, letter, letter) == 0 then
      redis.call('ZREM', index, member)
    end
  end
end

-- Write id and time into an entry before it leaves its place in the stream.
local function keep_origin(fields, entry_id)
  if (value_of(fields, 'task_id') or '') == '' then
    fields[#fields + 1] = 'task_id'
    fields[#fields + 1] = entry_id
  end
  if not tonumber(value_of(fields, 'first_seen') or '') then
    fields[#fields + 1] = 'first_seen'
    fields[#fields + 1] = seconds(tonumber(string.match(entry_id, '^%d+')) / 1000)
  end
end

-- Add a task to its tenant's backlog. Older tasks go first, so a task that comes back does not go to the end.
local function wait_in_line(fields)
  local first_seen = tonumber(value_of(fields, 'first_seen') or '')
  if not first_seen then
    first_seen = now_s()
    fields[#fields + 1] = 'first_seen'
    fields[#fields + 1] = seconds(first_seen)
  end
  settings()
  local tenant = tenant_of(fields)
  local number = redis.call('HINCRBY', state, 'number', 1) % 1e12
  local time = math.max(0, math.min(first_seen, 1e11)) * 1000
  redis.call('ZADD', waiting, 0,
    tenant .. '\0' .. string.format('%015.0f%012.0f', time, number) .. cjson.encode(fields))
  local phase, turn = phase_of(tenant)
  if phase == DRAINED then
    readmit(tenant, turn)
  end
  return tenant
end

-- The first waiting task of a tenant, and the second.
local function first_waiting(tenant)
  local found = redis.call('ZRANGE', waiting, '[' .. tenant .. '\0', '(' .. tenant .. '\1', 'BYLEX', 'LIMIT', 0, 2)
  return found[1], found[2]
end

local function entry_of(member, tenant)
  return cjson.decode(string.sub(member, #tenant + 2 + HEADER))
end

-- Count an entry of the stream for its tenant, if its tenant has a bound.
local function note_running(id, tenant)
  if not is_bounded(tenant) then
    return
  end
  redis.call('HSET', state, 'entry:' .. id, tenant)
  if is_at_cap(count(tenant, 1)) then
    local phase, turn = phase_of(tenant)
    if phase == READY then
      place(tenant, RESTING, turn)
    end
  end
end

-- Forget the account of an entry that has left the stream. `task_id` is given if its task has ended for good. Return the tenant
-- for which it was counted, or nil.
local function close_account(id, task_id)
  local account, cancelled = 'entry:' .. id, 'cancelled:' .. (task_id or '')
  local found = redis.call('HMGET', state, account, cancelled)
  local tenant = found[1]
  if tenant or found[2] then
    redis.call('HDEL', state, account, cancelled)
  end
  return tenant or nil
end

-- Count one task less for a tenant. Another task may have its place.
local function note_ended(tenant)
  count(tenant, -1)
  local phase, turn = phase_of(tenant)
  if phase == RESTING then
    readmit(tenant, turn)
  end
end

-- Take an ended entry out of the stream, and forget its account. Nothing else trims the stream. Return the tenant for which it
-- was counted, or nil.
local function take_out(id, task_id)
  redis.call('XACK', queue, GROUP, id)
  redis.call('XDEL', queue, id)
  return close_account(id, task_id)
end

-- Remove an entry whose task goes on elsewhere.
local function remove(id)
  local tenant = take_out(id)
  if tenant then
    note_ended(tenant)
  end
end

-- Return what Redis knows of the queue's consumer group; nil if there is no stream or no group.
local function group_info()
  local groups = redis.pcall('XINFO', 'GROUPS', queue)
  for _, group in ipairs(groups.err and {} or groups) do
    if field(group, 'name') == GROUP then
      return group
    end
  end
end

-- The number of entries that no worker has taken yet, and the last entry that one has.
local function undelivered()
  local group = group_info()
  local taken, last = group and field(group, 'pending') or 0, group and field(group, 'last-delivered-id') or '0-0'
  return redis.call('XLEN', queue) - taken, last
end

-- Forget all tenants while no task waits: then none has to wait for another. Their number does not matter, because Redis
-- frees the set in the background.
local function forget_tenants()
  redis.call('UNLINK', tenants)
  redis.call('ZADD', tenants, NEVER, '')
end

-- The tenant with the lowest score that can have a turn, and the score; nil if no tenant waits, or all of them rest.
local function lowest()
  local found = redis.call('ZRANGE', tenants, 0, 0, 'WITHSCORES')
  local tenant, score = found[1], tonumber(found[2] or NEVER)
  if score >= DRAINED and score < NEVER then
    forget_tenants()
  end
  if score >= RESTING or queue == LANED and score >= VIDEO_LANE and is_lane_full() then
    return nil
  end
  return tenant, score
end

-- The tenant that has the next turn, and its time.
local function next_turn()
  local tenant, turn = lowest()
  if not tenant or queue ~= LANED then
    return tenant, turn
  elseif turn >= VIDEO_LANE then
    return tenant, turn - VIDEO_LANE
  end
  local video, its_turn
  if not is_lane_full() then
    video, its_turn = first_of(VIDEO_LANE)
  end
  if video and its_turn < turn then
    return video, its_turn
  end
  return tenant, turn
end

-- Move tasks from the backlog to the runway, each tenant in its turn. What a call leaves is done by later ones. A caller that
-- knows the next turn gives the tenant and its time.
local removed = 0
local function dispatch(tenant, turn)
  if settings().paused then
    return
  end
  local room
  while room ~= 0 do
    if not tenant then
      tenant, turn = next_turn()
    end
    if not tenant then
      return
    end
    room = room or math.max(0, RUNWAY - undelivered())
    local member, another
    if room > 0 then
      member, another = first_waiting(tenant)
    end
    if member then
      room = room - 1
      local id = append(queue, entry_of(member, tenant))
      redis.call('ZREM', waiting, member)
      if turn > settings().turn then
        settings().turn = turn
        redis.call('HSET', state, 'turn', turn)
      end
      -- A drained tenant must not hold up others. If it adds a task before its turn comes, it keeps the turn: so a tenant that
      -- adds tasks one by one gets no more than its share. `settle` removes those whose turn came.
      place(tenant, another and READY or DRAINED, turn + 1)
      note_running(id, tenant)
    elseif room > 0 then -- somebody removed its tasks by hand
      if redis.call('ZCARD', waiting) <= 1 then
        forget_tenants()
      else
        redis.call('ZREM', tenants, tenant)
      end
      removed = removed + 1
      room = removed < MOST_EMPTY and room or 0
    end
    tenant = nil
  end
end

-- Add a task to the stream if no tenant waits, and return whether it was added. Otherwise there is a place for it only when a
-- worker has taken an entry, and confirms it (admit).
local function add_to_stream(fields)
  local may_pass = not settings().paused and not lowest()
  if may_pass and (redis.call('XLEN', queue) < RUNWAY or undelivered() < RUNWAY) then
    local tenant = tenant_of(fields)
    if phase_of(tenant) == DRAINED and not has_no_slot(tenant) then
      note_running(append(queue, fields), tenant)
      return true
    end
  end
  return false
end

local function add(fields)
  if not add_to_stream(fields) then
    wait_in_line(fields)
  end
end
