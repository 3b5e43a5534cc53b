"""The NoCloud seed: what cloud-init reads on machines that have no metadata service. PURE.

A seed is three small files. The drivers decide how they reach the machine: a directory in
its file system, or a disk labelled ``cidata``.
"""

from __future__ import annotations

import json

#: Key of the machine's index inside its launch in the seed's meta-data; EC2's own name.
LAUNCH_INDEX = "ami-launch-index"


def seed_files(
    *,
    cloud_id: str,
    hostname: str,
    launch_index: int,
    user_data: str,
    network_config: str = "",
) -> dict[str, str]:
    """File name → text. cloud-init shows the meta-data as ``ds.meta_data`` of instance data.

    ``cloud_id`` becomes the instance id: cloud-init boots anew when it changes. Without a
    ``network_config`` the network is left alone: whoever made the machine set it up.
    """
    meta_data = {
        "instance-id": cloud_id,
        "local-hostname": hostname,
        LAUNCH_INDEX: launch_index,
    }
    return {
        "meta-data": json.dumps(meta_data) + "\n",
        "user-data": user_data,
        "vendor-data": "#cloud-config\n{}\n",
        **({"network-config": network_config + "\n"} if network_config else {}),
    }
