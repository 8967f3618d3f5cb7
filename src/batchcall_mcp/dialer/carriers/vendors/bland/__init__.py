"""Bland: the carrier, and what its words mean."""

from batchcall_mcp.dialer.carriers.vendors.bland.carrier import BlandCarrier

__all__ = ["BlandCarrier"]
