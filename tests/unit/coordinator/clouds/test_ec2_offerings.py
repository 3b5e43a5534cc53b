"""What is tried, in which order, and what is skipped for how long."""

from coordinator.clouds.ec2_offerings import LONGEST_SKIP, Market, Offering, Shortages

SMALL = Offering(type="t3.small", zone="us-east-1a")


def test_an_offering_without_capacity_is_skipped_for_three_minutes_and_then_twice_as_long():
    shortages = Shortages().after_refusal(SMALL, 1, "ICE", 0.0)
    assert shortages.why_skipped(SMALL, 1, 179.0)
    assert not shortages.why_skipped(SMALL, 1, 180.0)
    shortages = shortages.after_refusal(SMALL, 1, "ICE", 180.0)
    assert shortages.why_skipped(SMALL, 1, 180.0 + 359.0)
    assert not shortages.why_skipped(SMALL, 1, 180.0 + 360.0)


def test_the_pause_has_a_bound_and_is_forgotten_when_it_ended_long_ago():
    shortages, now = Shortages(), 0.0
    for _ in range(20):
        shortages = shortages.after_refusal(SMALL, 1, "ICE", now)
        now = shortages.known[SMALL].until
    assert shortages.known[SMALL].period == LONGEST_SKIP
    again = shortages.after_refusal(SMALL, 1, "ICE", now + LONGEST_SKIP)
    assert again.known[SMALL].period == 180.0


def test_what_has_no_room_for_fifty_may_have_it_for_five():
    shortages = Shortages().after_refusal(SMALL, 50, "ICE", 0.0)
    assert shortages.why_skipped(SMALL, 50, 1.0)
    assert not shortages.why_skipped(SMALL, 5, 1.0)
    shortages = shortages.after_refusal(SMALL, 5, "ICE", 1.0)
    assert shortages.why_skipped(SMALL, 5, 2.0)
    assert shortages.known[SMALL].period == 180.0, "two questions of one moment are one refusal"


def test_room_for_a_few_says_nothing_of_room_for_many():
    shortages = Shortages().after_refusal(SMALL, 50, "ICE", 0.0)
    assert shortages.after_success(SMALL, 5) == shortages
    assert not shortages.after_success(SMALL, 50).known


def test_markets_and_zones_run_out_on_their_own():
    shortages = Shortages().after_refusal(SMALL, 1, "ICE", 0.0)
    assert not shortages.why_skipped(SMALL.on(Market.SPOT), 1, 1.0)
    assert not shortages.why_skipped(Offering(type="t3.small", zone="us-east-1b"), 1, 1.0)


def test_a_reason_names_the_offering_and_how_long_it_is_skipped():
    shortages = Shortages().after_refusal(SMALL, 1, "no room", 0.0)
    said = shortages.why_skipped(SMALL, 1, 60.0)
    assert said == "on-demand t3.small in us-east-1a: no room (skipped for 120 s)"
