"""Bytes of others, valid ones changed and any: what Relink reads is read or refused."""
