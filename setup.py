"""EPU: controls worker fleets on IaaS machines that do not disappear and can be elastic."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent

PACKAGES = find_packages(
    include=[
        name + suffix
        for name in ("agent", "bootlevels", "coordinator", "mgmt", "userdata_templates")
        for suffix in ("", ".*")
    ]
)


class BuildWithConstraints(build_py):
    """The versions that were tested travel with the distribution: machines install those."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "userdata_templates" / "constraints.txt"
            self.copy_file(str(HERE / "constraints.txt"), str(target))


setup(
    name="epu",
    version="0.1.0",
    description="Keeps worker fleets on IaaS machines alive and elastic, and can say why",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.14",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Clustering",
        "Topic :: System :: Systems Administration",
    ],
    # The five directories are real top-level packages; tests are never shipped.
    packages=PACKAGES,
    cmdclass={"build_py": BuildWithConstraints},
    package_data={
        "userdata_templates": ["*.j2", "parts/*.j2"],
        "bootlevels.plans": ["*/*.yaml", "*/*.json", "*/README.md"],
    },
    install_requires=[
        # nameko is not maintained any more: one exact version, whose traps agent/bus.py
        # closes, and tested ranges of what it stands on (its own metadata has no bounds).
        "nameko==2.14.1",
        "kombu>=5.6,<5.8",
        "amqp>=5.3,<5.5",
        "eventlet>=0.40,<0.42",
        # nameko's command line imports pkg_resources, which setuptools 81 dropped and
        # Python 3.12 no longer brings along.
        "setuptools<81",
        "jinja2>=3.1,<4",
        "boto3>=1.40,<2",
        "fabric>=3.2,<4",
        "paramiko>=3.4,<6",
        # What paramiko itself stands on; makes the key of sleeper-vms.
        "cryptography>=42",
        "packaging>=24",
        "psutil>=7,<8",
        "supervisor>=4.3,<5",
        # The text format of Prometheus, for a node's own sensors; loaded only where one is.
        "prometheus_client>=0.21,<1",
        "cronsim>=2.6,<3",
        # Time zones of schedules, for machines that have no tzdata of their own.
        "tzdata",
        "SQLAlchemy>=2.0,<2.1",
        "alembic>=1.14,<2",
        "msgspec>=0.19,<1",
        "pydantic>=2.10,<3",
        "PyYAML>=6,<7",
        "requests>=2.31,<3",
        "click>=8.2,<9",
        "rich>=13,<16",
    ],
    extras_require={
        "libcloud": ["apache-libcloud>=3.8,<4"],
        # Pictures of `epu simulate --out` and `epu graph`; 60 MB that no node needs.
        "graph": ["matplotlib>=3.9,<4"],
        "dev": [
            "apache-libcloud>=3.8,<4",
            # moto's own "server" extra brings thirty packages that its EC2 never loads.
            "flask>=3,<4",
            "flask-cors>=5,<7",
            "hypothesis>=6.100,<7",
            "jsonschema>=4.20,<5",
            "matplotlib>=3.9,<4",
            "moto>=5.1,<6",
            "mypy>=1.15,<3",
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.9,<1",
            "types-PyYAML",
            "types-psutil",
            "types-requests",
        ],
    },
    entry_points={
        "console_scripts": [
            "epu=mgmt.cli:main",
            "epu-agent=agent.service:main",
        ],
        "epu.clouds": [
            "process=coordinator.clouds.process:ProcessCloud",
            "container=coordinator.clouds.container:ContainerCloud",
            "qemu=coordinator.clouds.qemu:QemuCloud",
            "ec2=coordinator.clouds.ec2:Ec2Cloud",
            "libcloud=coordinator.clouds.libcloud:LibcloudCloud",
            "in_memory=coordinator.clouds.in_memory:InMemoryCloud",
        ],
        "epu.engines": [
            "n_preserving=coordinator.engines.n_preserving:NPreserving",
            "queue_length=coordinator.engines.queue_length:QueueLength",
            "target_tracking=coordinator.engines.target_tracking:TargetTracking",
            "time_to_drain=coordinator.engines.time_to_drain:TimeToDrain",
            "sensor_threshold=coordinator.engines.sensor_threshold:SensorThreshold",
            "combined=coordinator.engines.combined:Combined",
        ],
        "epu.sensors": [
            "queue_length=coordinator.sensors.queue_length:QueueLengthSensor",
        ],
    },
)
