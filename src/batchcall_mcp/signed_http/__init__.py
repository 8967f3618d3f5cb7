"""Signed messages (Standard Webhooks) to addresses that were judged: for the dialer's webhooks and notifications."""
