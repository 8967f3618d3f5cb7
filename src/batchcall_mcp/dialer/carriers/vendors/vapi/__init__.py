"""Vapi: the carrier, and what its words mean."""

from batchcall_mcp.dialer.carriers.vendors.vapi.carrier import VapiCarrier

__all__ = ["VapiCarrier"]
