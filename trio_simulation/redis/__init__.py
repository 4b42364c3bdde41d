"""A model of Redis: fakeredis runs the commands, this module connects it to the simulated network.

Needs the extra ``redis`` (fakeredis and lupa, which runs scripts in Lua 5.1 as Redis does).
"""

from .server import RedisModel

__all__ = ["RedisModel"]
