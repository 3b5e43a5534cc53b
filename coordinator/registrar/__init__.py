"""Checks enrolment tokens, hands out broker accounts and role data, takes readiness."""
