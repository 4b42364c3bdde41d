-- Prepended to every script of this folder. The record of a deletion is one hash per media item:
--   state                marked, removing, removed, undeleted
--   generation           number of this deletion of the media item; grows with each one
--   due                  when its objects may be removed (Unix milliseconds)
--   absorbed             the last position of the stream drop_deleted that names the media item
--   undeleted_at         when it was last undeleted (Unix milliseconds, by the clock of the server of the notices)
--   undeleted_through    notices up to this position of the stream were issued before the undelete
--   too_late             1 if it was due when it was restored: its removal may have begun, so it cannot be undone
-- A media item is deleted if it has a record in any state but undeleted.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Lua writes large numbers as 1e+15.
local function whole(number)
  return string.format('%.0f', number)
end

local function is_deleted(state)
  return state and state ~= 'undeleted'
end

-- Whether one position of a stream is after another.
local function is_after(position, other)
  local ms, sequence = string.match(position, '^(%d+)-?(%d*)')
  local other_ms, other_sequence = string.match(other, '^(%d+)-?(%d*)')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  if ms ~= other_ms then
    return ms > other_ms
  end
  return (tonumber(sequence) or 0) > (tonumber(other_sequence) or 0)
end

-- Wake the watchers of a media item.
local function announce(media_id)
  redis.call('PUBLISH', 'media_status:' .. media_id, '')
end

-- The id of this server process, in scripts that take it.
local process = ARGV[#ARGV]

-- Whether no record of a bucket is lost, by its hash media_deletions_complete: the journal was replayed into this very
-- server process. Another process may have lost the last writes, and without the hash all is lost.
local function is_complete(key)
  return redis.call('HGET', key, 'process') == process
end

local function later(position, other)
  if not other or other == '' or (position ~= '' and is_after(position, other)) then
    return position
  end
  return other
end
