"""Coding agents behind an OpenCode-compatible HTTP API, followed into the log."""

from bridge.coding_agent.client import AgentClient
from bridge.coding_agent.poller import Patience, Poller

__all__ = ["AgentClient", "Patience", "Poller"]
