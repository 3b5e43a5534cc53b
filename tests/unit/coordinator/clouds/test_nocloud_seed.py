"""What machines without a metadata service are told of themselves."""

import json

from coordinator.clouds.nocloud_seed import seed_files


def test_a_seed_says_which_machine_of_its_launch_it_is_for():
    files = seed_files(
        cloud_id="c-7", hostname="launch-1-3", launch_index=3, user_data="#cloud-config\n{}\n"
    )
    assert json.loads(files["meta-data"]) == {
        "instance-id": "c-7",
        "local-hostname": "launch-1-3",
        "ami-launch-index": 3,
    }
    assert files["user-data"] == "#cloud-config\n{}\n"
    assert set(files) == {"meta-data", "user-data", "vendor-data"}
