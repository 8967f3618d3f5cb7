"""Twilio, and SignalWire at another address. The carrier, what its answers mean, and what it reports by itself."""

from batchcall_mcp.dialer.carriers.vendors.twilio.carrier import TwilioCarrier

__all__ = ["TwilioCarrier"]
