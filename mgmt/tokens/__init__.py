"""Commands about enrolment tokens."""
