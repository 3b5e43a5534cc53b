"""EC2 through boto3: one attempt for each call, with a deadline, its errors by meaning.

The library's own retries are off: who calls knows what may be repeated, and when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from coordinator.clouds.ec2_errors import (
    Ec2Failure,
    Meaning,
    clock_hint,
    failure_text,
    meaning_of,
)
from coordinator.clouds.ec2_pacing import Pacing
from coordinator.clouds.ec2_rates import Family
from coordinator.clouds.ec2_settings import Ec2Account

#: Seconds to connect, and to wait for an answer, of calls that change nothing, and of the
#: others. With the time in which a call may begin, each stays below the deadline at which
#: the provisioner kills this process.
CONNECT_TIMEOUT = 4.0
READ_TIMEOUT = 10.0
WRITE_TIMEOUT = 25.0
#: Calls that change something: their answers take longer and matter more.
_WRITES = frozenset({"run_instances", "terminate_instances"})
#: Most instances on one page.
PAGE = 1000
_CONNECTIONS = 12


class Ec2Api:
    """The calls of one account in one region. Safe for threads.

    The library is loaded at the first call, which takes half a second and 50 MB.
    """

    def __init__(self, account: Ec2Account, region: str, pacing: Pacing | None = None) -> None:
        self.account = account
        self.region = region
        self.pacing = pacing or Pacing(time.monotonic)
        self._session: Any = None
        self._clients: dict[bool, Any] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Ec2Api({self.account!r})"

    def call(self, family: Family, operation: str, deadline: float, **parameters: Any) -> Any:
        """One call of the client's method ``operation``, begun before ``deadline``.

        ``deadline`` is of ``time.monotonic``. Raises Ec2Failure.
        """
        self.pacing.take(family, deadline)
        try:
            client = self._client(operation in _WRITES)
        except ValueError as problem:  # an endpoint that is no URL
            text = failure_text("ValueError", str(problem), self._secrets())
            raise Ec2Failure(Meaning.CREDENTIALS, "ValueError", text) from None
        except Exception as problem:
            self._fail(family, problem)
        try:
            return getattr(client, operation)(**parameters)
        except Exception as problem:
            self._fail(family, problem)

    def instances(
        self, filters: Sequence[Mapping[str, Any]], deadline: float
    ) -> Iterator[Mapping[str, Any]]:
        """Every instance that ``filters`` let through, page by page."""
        more: dict[str, Any] = {}
        while True:
            page = self.call(
                Family.DESCRIBE,
                "describe_instances",
                deadline,
                Filters=list(filters),
                MaxResults=PAGE,
                **more,
            )
            for reservation in page.get("Reservations", ()):
                yield from reservation.get("Instances", ())
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}

    # ---------------------------------------------------------------- inside

    def _client(self, writes: bool) -> Any:
        with self._lock:
            if writes not in self._clients:
                self._clients[writes] = self._made(writes)
            return self._clients[writes]

    def _made(self, writes: bool) -> Any:
        import boto3
        from botocore.config import Config

        account = self.account
        if self._session is None:
            self._session = boto3.session.Session(
                aws_access_key_id=account.access_key or None,
                aws_secret_access_key=account.secret_key or None,
                aws_session_token=account.session_token or None,
                profile_name=account.profile or None,
                region_name=self.region or None,
            )
        return self._session.client(
            "ec2",
            endpoint_url=account.endpoint or None,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=WRITE_TIMEOUT if writes else READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=_CONNECTIONS,
                user_agent_extra="epu",
            ),
        )

    def _fail(self, family: Family, problem: Exception) -> NoReturn:
        """Raise what ``problem`` means. Anything that is no error of the library's passes."""
        failure = self._failure(problem)
        if failure is None:
            raise problem
        if failure.meaning is Meaning.THROTTLED:
            self.pacing.throttled(family)
        if failure.meaning is Meaning.CREDENTIALS:
            # Read anew from wherever they come: somebody may have replaced them meanwhile.
            with self._lock:
                self._session, self._clients = None, {}
        raise failure from None

    def _failure(self, problem: Exception) -> Ec2Failure | None:
        from botocore import exceptions

        name = type(problem).__name__
        if isinstance(problem, exceptions.ClientError):
            error = problem.response.get("Error", {})
            about = problem.response.get("ResponseMetadata", {})
            code = str(error.get("Code", ""))
            message = str(error.get("Message", ""))
            meaning = meaning_of(code, int(about.get("HTTPStatusCode", 0)), message)
            text = failure_text(code, message, self._secrets())
            hint = clock_hint(code, _skew(about.get("HTTPHeaders", {})))
            return Ec2Failure(meaning, code, text + hint)
        credentials = (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.NoAuthTokenError,
            exceptions.SSOError,
            # Where and as whom can't be told: a person has to look, as above.
            exceptions.ProfileNotFound,
            exceptions.ConfigParseError,
            exceptions.NoRegionError,
            exceptions.InvalidRegionError,
        )
        unsent = (
            exceptions.EndpointConnectionError,
            exceptions.ConnectTimeoutError,
            exceptions.ProxyConnectionError,
        )
        if isinstance(problem, credentials):
            meaning = Meaning.CREDENTIALS
        elif isinstance(problem, unsent):
            meaning = Meaning.UNSENT
        elif isinstance(problem, exceptions.ParamValidationError):
            meaning = Meaning.REFUSED
        elif isinstance(problem, (exceptions.BotoCoreError, exceptions.HTTPClientError, OSError)):
            meaning = Meaning.UNCERTAIN
        else:
            return None
        text = failure_text(name, str(problem), self._secrets())
        if isinstance(problem, exceptions.NoCredentialsError):
            text += " (give access_key and secret_key as env:NAME, or a profile)"
        return Ec2Failure(meaning, name, text)

    def _secrets(self) -> tuple[str, ...]:
        account = self.account
        return (account.secret_key, account.session_token, account.access_key)


def _skew(headers: Mapping[str, str]) -> float | None:
    """How far our clock is ahead of the one that answered, s; None when it did not say."""
    with suppress(KeyError, TypeError, ValueError):
        theirs = parsedate_to_datetime(headers["date"])
        if theirs.tzinfo is not None:
            return (datetime.now(UTC) - theirs).total_seconds()
    return None
