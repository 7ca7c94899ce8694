"""From a model's reply to descriptions: Template 1 in free text or JSON, repetition, and the token limit.

A reply that does not parse is never an exception: what is dropped keeps its reason. Pure: no model, no disk.
"""
