"""How cloud-init is set up on machines of the container cloud. PURE.

A file for ``/etc/cloud/cloud.cfg.d`` that leaves real cloud-init as it is, except that it
asks no other cloud, waits for nothing, and does not run the modules that would set up what
a machine made of namespaces has not (disks, boot loader, ssh host keys, package mirrors).
What a user's own user-data asks for is run.
"""

from __future__ import annotations

import json

#: Last of its directory, whatever else an image brings.
FILE = "etc/cloud/cloud.cfg.d/zz-epu.cfg"

_LOGGING = """\
[loggers]
keys=root,cloudinit
[handlers]
keys=console,file
[formatters]
keys=plain
[logger_root]
level=DEBUG
handlers=console,file
[logger_cloudinit]
level=DEBUG
qualname=cloudinit
handlers=
propagate=1
[handler_console]
class=StreamHandler
level=WARNING
formatter=plain
args=(sys.stderr,)
[handler_file]
class=FileHandler
level=DEBUG
formatter=plain
args=('/var/log/cloud-init.log', 'a', 'UTF-8')
[formatter_plain]
format=%(asctime)s - %(filename)s[%(levelname)s]: %(message)s
"""


def cloud_config() -> str:
    """The text of the file. JSON, which is YAML too."""
    settings = {
        "datasource_list": ["NoCloud", "None"],
        # No search for a disk labelled so: the seed is a directory.
        "datasource": {"NoCloud": {"fs_label": None}},
        "network": {"config": "disabled"},
        "log_cfgs": [[_LOGGING]],
        "output": {},
        # Nobody but whom the user-data names; no list of users may be empty.
        "users": [{"name": "root", "lock_passwd": False}],
        "disable_root": False,
        "preserve_hostname": True,
        "manage_etc_hosts": False,
        "ssh_deletekeys": False,
        "apt": {"preserve_sources_list": True},
        "cloud_init_modules": ["bootcmd", "write-files", "ca-certs", "users-groups"],
        "cloud_config_modules": ["timezone", "runcmd"],
        "cloud_final_modules": [
            "package-update-upgrade-install",
            "write-files-deferred",
            "scripts-per-once",
            "scripts-per-boot",
            "scripts-per-instance",
            "scripts-user",
            "phone-home",
            "final-message",
        ],
    }
    return f"#cloud-config\n{json.dumps(settings, indent=1)}\n"
