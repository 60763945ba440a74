"""The front door: what a bot or an agent calls, and the importers of what was recorded before."""

from bridge.blocking import BlockingBridge
from bridge.bridge import Bridge

__all__ = ["BlockingBridge", "Bridge"]
