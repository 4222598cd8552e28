"""Holds a running server to schemas/v1.openapi.yaml with schemathesis, once as a user and once as an administrator.

    run.py YURT [--seconds N] [--seed N | --seed random] [--only REGEX] [further arguments of `schemathesis run`]

YURT is the built program. It is started on a free port with its data in a folder that is removed afterwards.
"""

import argparse
import json
import os
import pathlib
import random
import select
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
CONTRACT = HERE.parent.parent / "schemas" / "v1.openapi.yaml"

# Rates are off: thousands of requests come from one account. Registration is open, so that the testers can make accounts.
CONFIG = """
data_dir = "data"
listen.api = "127.0.0.1:0"
federation.enabled = false
accounts.registration = "open"
limits.enabled = false
log.level = "warn"
[[tenant]]
server_name = "localhost"
"""

# How long the server may take to answer, and to end.
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20

# How long one role's test may take before something hangs.
TEST_SECONDS_MAX = 1800


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("yurt", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, help="go on for so long, both runs together; without it: so many cases as schemathesis.toml says")
    parser.add_argument("--seed", default="1", help="a number, or `random`")
    parser.add_argument("--only", help="only operations whose path this regular expression finds")
    arguments, further = parser.parse_known_args()
    seed = random.randrange(1 << 32) if arguments.seed == "random" else int(arguments.seed)
    if arguments.seconds:
        further += ["--max-time", str(arguments.seconds // 2)]
    if arguments.only:
        further += ["--include-path-regex", arguments.only]
    with tempfile.TemporaryDirectory(prefix="yurt-api-test-") as folder:
        (pathlib.Path(folder) / "config.toml").write_text(CONFIG)
        server = Server(arguments.yurt.resolve(), folder)
        results = []
        try:
            results += [server.test(role, seed, further) for role in ("user", "admin")]
            if not server.is_alive():
                results.append("the server ended during the test")
        finally:
            results.append(server.stop())
    failures = [result for result in results if result]
    for failure in failures:
        print(f"{failure}; the seed was {seed}", file=sys.stderr)
    sys.exit(1 if failures else 0)


class Server:
    """The program as a process of its own."""

    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("YURT_")}
        # Everything is on this machine: no proxy of the environment has a part in it.
        self.environment |= {"NO_PROXY": "*", "no_proxy": "*"}
        self.process = subprocess.Popen(
            [program, "serve"], cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        try:
            self.api = self.ready()["api"]
            self.command("account", "create", "root", "--admin")
            self.admin_token = self.command("account", "token", "root")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def ready(self):
        """What the server says when it answers."""
        if not select.select([self.process.stdout], [], [], START_SECONDS_MAX)[0]:
            sys.exit("the server did not say in time that it is ready")
        line = self.process.stdout.readline()
        return json.loads(line) if line else sys.exit(f"the server ended with {self.process.wait()}")

    def command(self, *arguments):
        done = subprocess.run(
            [self.program, *arguments], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True, check=True,
            timeout=START_SECONDS_MAX,
        )
        return done.stdout.strip()

    def test(self, role, seed, further):
        """Says what failed, if anything did."""
        environment = self.environment | {
            "YURT_API": self.api,
            "YURT_ADMIN_TOKEN": self.admin_token,
            "YURT_ROLE": role,
            "YURT_SEED": str(seed),
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(HERE),
            # Answers are kept per run, so that one run does not depend on another.
            "HYPOTHESIS_STORAGE_DIRECTORY": str(pathlib.Path(self.folder) / f"hypothesis-{role}"),
        }
        program = pathlib.Path(sys.executable).parent / "schemathesis"
        print(f"\n== as {role}, seed {seed} ==", flush=True)
        done = subprocess.run(
            [
                program, "--config-file", HERE / "schemathesis.toml", "run", CONTRACT, "--url", self.api,
                "--seed", str(seed), *further,
            ],
            cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, timeout=TEST_SECONDS_MAX,
        )
        return f"as {role}: schemathesis ended with {done.returncode}" if done.returncode else None

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        """Says what was wrong with the end, if anything was."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"the server did not stop within {STOP_SECONDS_MAX} s"
        return f"the server ended with {code}" if code else None


if __name__ == "__main__":
    main()
