"""ElevenLabs Agents: the carrier, and what its words mean."""

from batchcall_mcp.dialer.carriers.vendors.elevenlabs.carrier import ElevenLabsCarrier

__all__ = ["ElevenLabsCarrier"]
