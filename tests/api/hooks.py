"""What schemathesis cannot know: who asks, and which rooms, events and people there are."""

import os
import random
import re
from urllib.parse import unquote

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.parameters import ParameterLocation
from schemathesis.openapi.checks import JsonSchemaError, RejectedPositiveData

API = os.environ["YURT_API"]
ADMIN = os.environ["YURT_ADMIN_TOKEN"]
ROLE = os.environ["YURT_ROLE"]
PASSWORD = "correct horse battery staple"

# How often a valid id is one that exists.
KNOWN_SHARE = 0.85

chance = random.Random(int(os.environ["YURT_SEED"]))
session = requests.Session()
session.trust_env = False

# Calls that take something away from whoever calls: each gets an account of its own.
SUICIDES = re.compile("POST /v1/auth/logout|DELETE /v1/me|PUT /v1/me/password|DELETE /v1/me/sessions/.*")

# Calls after which a room is not what it was: most get a room of their own.
CHANGES = {"close", "archive", "rejoin", "leave", "kick", "ban", "power-levels", "power-level", "workspace", "state"}


# Fields of which the schema says less than the server asks, because it depends on more than the field.
MORE_THAN_A_SCHEMA = {
    "participant_id": "a local name is one with the server's name, and both together have a limit",
    "invite": "as participant_id",
    "members": "as participant_id",
    "participants": "as participant_id, on both sides",
    "from": "a cursor is opaque; only one that was given is one",
    "name": "wanted or not by the type of the room",
    "alias": "of this server's name",
    "muted_until": "must lie in the future",
    "via": "the names of servers have a grammar",
    "workspace_id": "the one that came with the account stays",
    "format": "goes with formatted_body",
    "duration_ms": "ends before the year 10000",
    "expires_at": "must lie in the future",
    "Last-Event-ID": "as from",
    "users": "user ids have a grammar",
    "avatar_url": "names a server, as via",
    "content": "events are canonical JSON: no fractions, no numbers beyond 2^53",
    "is_public": "goes with some types of rooms",
    "server": "as via",
    "servers": "as via, and goes with one mode",
    "allow": "as via",
    "peer": "somebody of it is in the room",
    "as": "of this server's name",
    "mode": "goes without enabled, and with servers where they are listed",
}


def call(token, method, path, body=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = session.request(method, API + path, json=body, headers=headers, timeout=20)
    answer.raise_for_status()
    return answer.json()["data"]


def account(name):
    made = call(None, "POST", "/v1/auth/register", {"username": name, "password": PASSWORD})
    return made["participant_id"], made["access_token"]


class World:
    """Rooms and people around the tester."""

    def __init__(self):
        self.accounts_made = 0
        if ROLE == "admin":
            self.token = ADMIN
            self.me = call(ADMIN, "GET", "/v1/me")["participant_id"]
        else:
            self.me, self.token = self.somebody()
        self.bob, self.bob_token = self.somebody()
        self.carol, self.carol_token = self.somebody()
        self.people = [self.bob, self.bob.split(":")[0][1:], self.carol, self.me]
        self.protected = {name for person in (self.me, self.bob, self.carol) for name in (person, person.split(":")[0][1:])}
        self.events = {}
        self.workspaces = [call(self.token, "POST", "/v1/workspaces", {"name": "Tents"})["id"]]
        self.workspaces.append(call(self.token, "GET", "/v1/me")["personal_workspace_id"])
        self.hidden_workspace = call(self.bob_token, "GET", "/v1/me")["personal_workspace_id"]
        self.shared = self.room()
        theirs = call(self.bob_token, "POST", "/v1/rooms", {"room_type": "group", "name": "Theirs", "invite": [self.me]})
        public = call(self.bob_token, "POST", "/v1/rooms", {"room_type": "public", "name": f"Market {self.me}"})
        hidden = call(self.bob_token, "POST", "/v1/rooms", {"room_type": "group", "name": "Hidden"})
        direct = call(self.token, "POST", "/v1/rooms/dm", {"participant_id": self.bob})
        incognito = call(self.token, "POST", "/v1/rooms", {"room_type": "incognito", "invite": [self.bob]})
        old = call(self.token, "POST", "/v1/rooms", {"room_type": "group", "name": "Old", "room_version": "10"})
        others = [theirs, public, hidden, direct, incognito, old]
        self.rooms = [room["id"] for room in others] + [old["room_alias"], public["room_alias"]]
        for room in others:
            self.events[room["id"]] = self.events[self.shared]

    def somebody(self):
        self.accounts_made += 1
        return account(f"{ROLE}-{self.accounts_made}")

    def room(self):
        """A new room of the tester, in which Bob has said something."""
        room = call(self.token, "POST", "/v1/rooms", {"room_type": "group", "name": "Ours", "is_public": True})["id"]
        call(self.bob_token, "POST", f"/v1/rooms/{room}/join")
        said = [call(self.bob_token, "POST", f"/v1/rooms/{room}/messages", {"body": "hello"})["event_id"]]
        said.append(call(self.token, "POST", f"/v1/rooms/{room}/messages", {"body": "welcome"})["event_id"])
        self.events[room] = said
        return room


world = World()


@schemathesis.auth(refresh_interval=None)
class Token:
    def get(self, case, context):
        if SUICIDES.fullmatch(f"{case.operation.method.upper()} {case.operation.path}"):
            return world.somebody()[1]
        return world.token

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Valid ids become ids that exist, mostly."""
    is_negative = case.meta is not None and case.meta.is_negative_at
    room = None
    if case.path_parameters and not (is_negative and is_negative(ParameterLocation.PATH)):
        room = choose_path(case)
    # An administrator must not shut out himself, nor those who furnish rooms.
    person = (case.path_parameters or {}).get("participant_id")
    if "/admin/" in case.operation.path and isinstance(person, str) and unquote(person) in world.protected:
        case.path_parameters["participant_id"] = world.somebody()[0]
    # By their text, because 1 == 1.0; what is put in anew is judged anew.
    if isinstance(case.body, dict) and repr(body := whole_numbers(case.body)) != repr(case.body):
        case.body = body
    if isinstance(case.body, dict) and not (is_negative and is_negative(ParameterLocation.BODY)):
        choose_body(case.body, room or world.shared)


def choose_path(case):
    path = case.operation.path
    parameters = case.path_parameters
    if "room_id" in parameters and known():
        changes = case.operation.method.upper() != "GET" and not CHANGES.isdisjoint(path.split("/"))
        # What an administrator deletes is gone for the rest of the run.
        deletes = case.operation.method.upper() == "DELETE" and path == "/v1/admin/rooms/{room_id}"
        if deletes or (changes and chance.random() < 0.7):
            parameters["room_id"] = world.room()
        else:
            parameters["room_id"] = world.shared if chance.random() < 0.6 else chance.choice(world.rooms)
    room = parameters.get("room_id")
    if "workspace_id" in parameters and known():
        parameters["workspace_id"] = chance.choice([*world.workspaces, world.hidden_workspace])
    if "event_id" in parameters and known():
        parameters["event_id"] = chance.choice(world.events.get(room, world.events[world.shared]))
    if "participant_id" in parameters and known():
        parameters["participant_id"] = world.somebody()[0] if "/admin/" in path else chance.choice(world.people)
    return room


def choose_body(body, room):
    if "participant_id" in body and known():
        body["participant_id"] = chance.choice(world.people)
    if "workspace_id" in body and body["workspace_id"] is not None and known():
        body["workspace_id"] = chance.choice([*world.workspaces, world.hidden_workspace])
    for field in ("event_id", "reply_to"):
        if field in body and known():
            body[field] = chance.choice(world.events.get(room, world.events[world.shared]))
    if body.get("invite") and isinstance(body["invite"], list) and known():
        body["invite"] = [world.bob]


def known():
    return chance.random() < KNOWN_SHARE


def whole_numbers(value):
    """JSON Schema calls 1.0 an integer; readers with types, ours among them, do not."""
    if isinstance(value, dict):
        return {key: whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether it is one: a valid request may be refused for what no schema can say."""
    # The schema of an event stream is that of its text; the tests of the stream judge each frame.
    if isinstance(failure, JsonSchemaError) and case.operation.path == "/v1/stream" and response.status_code == 200:
        return False
    # It was generated as valid, and lost that mark when `before_call` put ids in.
    if isinstance(failure, AcceptedNegativeData) and "positive test case" in failure.message:
        return False
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    error = response.json()["error"]
    # Every known type of state has content of its own form; a bundle is a ZIP of one room; some rooms leave no trace.
    refused = ("SW_ROOM_TYPE_INVARIANT", "SW_ROOM_IMPORT_REFUSED", "SW_ROOM_EXPORT_REFUSED")
    if error["code"] in refused or "/state/" in case.operation.path:
        return False
    named = re.match(r"`([\w-]+)`", error["message"])
    return not (named and named[1] in MORE_THAN_A_SCHEMA)
