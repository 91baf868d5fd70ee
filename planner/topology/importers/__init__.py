"""Importers: what tools say about a machine, read strictly, repaired only with a remark."""
