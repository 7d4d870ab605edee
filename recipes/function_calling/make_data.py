"""Writes requests to an assistant in a house, each with a few tools and what the assistant does: calls, or words.

    python3 recipes/function_calling/make_data.py [directory]

In: nothing but a seed. Out: three files of rows as OpenAI has them, `messages` and `tools`; the same bytes every time
and on every machine. `train.jsonl` has 320 rows. `evaluation.jsonl` has 48 rows of values, wordings and sets of tools
that training never sees. `new_tools.jsonl` has 20 rows that are about tools which training never sees either.

Of ten rows five have one call, one or two have two calls, one or two go on with a tool's result and an answer that
tells it, and two ask for what no shown tool can do.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEED = 41
ROWS = {"evaluation.jsonl": 48, "train.jsonl": 320, "new_tools.jsonl": 20}
KINDS = {"one": 10, "two": 3, "told": 3, "none": 4}  # of twenty rows
SIZES = {2: 6, 3: 3, 4: 1}  # of ten rows, so many show so many tools
SLOT = re.compile(r"\{([a-z.]+)\}")  # in a wording: the name of an argument, or of a part of one


def _words(train: str, held_out: str) -> tuple[list[str], list[str]]:
    return [text.strip() for text in train.split(",")], [text.strip() for text in held_out.split(",")]


def _talk(text: str) -> list[tuple[str, str]]:
    each = (said.partition(": ") for said in " ".join(text.split()).split(" / "))
    return [(said, answer) for said, _, answer in each]


def _one_of(values: list[str]) -> dict[str, Any]:
    return {"type": "string", "enum": values}


def _parted(numbers: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Three of four numbers for training, and the fourth for the held-out rows."""
    return [each for at, each in enumerate(numbers) if at % 4], list(numbers[::4])


TIMES = [f"{hour}:{minute:02d}" for hour in range(7, 23) for minute in (0, 15, 30, 45)]
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
WAYS = ["car", "bike", "train"]
CALENDARS = ["work", "home"]
# Values for training, and for held-out rows. What a closed list allows is the same in both.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "city": _words(
        "Berlin, Lyon, Madrid, Oslo, Lima, Cairo, Porto, Delhi, Boston, Kyoto, Dublin, Prague, Quito, Milan, Perth, "
        "Seoul",
        "Vienna, Hanoi, Malmo, Denver, Naples, Bogota, Leeds, Tunis",
    ),
    "person": _words(
        "Anna, Ben, Carla, Dev, Emma, Farid, Gina, Hugo, Ines, Jack, Kira, Liam, Mona, Nils, Olga, Paul",
        "Rosa, Samir, Tina, Umar, Vera, Walid, Yuki, Zoe",
    ),
    "room": _words(
        "kitchen, bedroom, hall, bathroom, office, living room, garage, nursery", "attic, cellar, library, guest room"
    ),
    "label": _words("eggs, tea, pasta, laundry, rice, bread, nap, yoga, cake, soup", "pizza, stretching, oven, plants"),
    "ingredient": _words(
        "rice, beans, tomato, onion, lemon, cheese, spinach, carrot, garlic, egg, potato, leek, tofu, corn",
        "mushroom, lentils, pumpkin, fennel, chickpeas, celery",
    ),
    "artist": _words(
        "Miles Davis, Nina Simone, Bach, Björk, Queen, Adele, Fela Kuti, Chopin, Abba, Prince, Sade, Vivaldi",
        "Blondie, Mozart, Cesaria Evora, Johnny Cash, Dvorak, Rihanna",
    ),
    "restaurant": _words(
        "Roma, Blue Door, Saffron, The Anchor, Chez Lou, Lotus, Green Fork, Tandoor, El Patio, Oak Room",
        "Golden Fig, Old Mill, Casa Pepe, Harbour House",
    ),
    "title": _words(
        "dentist, team lunch, piano lesson, book club, haircut, parents evening, gym, budget review, choir, vet",
        "eye test, chess club, car service, job interview",
    ),
    "message": _words(
        "I am running late, dinner is ready, the train is full, call me back, happy birthday, the keys are inside, "
        "see you soon, bring an umbrella, we won the game, I found your hat",
        "the parcel is here, I missed the bus, the shop is closed, good luck today",
    ),
    "phrase": _words(
        "good morning, where is the station, thank you, I am hungry, how are you, the bill please, I am lost, cheers",
        "see you tomorrow, a glass of water, I need help, open the window",
    ),
    "language": _words(
        "French, Italian, Turkish, Polish, Hindi, Greek, Korean, Dutch", "Spanish, Arabic, Danish, Thai"
    ),
    "currency": _words("EUR, USD, GBP, JPY, INR, CHF, SEK, BRL", "CAD, NOK, AUD, PLN"),
    "minutes": _parted(range(2, 60)),
    "few": ([2, 3, 4, 6, 7, 8, 10], [5, 9, 12]),
    "degrees": _parted([each / 2 for each in range(30, 50)]),
    "amount": _parted([*range(15, 900, 7), *(each / 4 for each in range(41, 400, 6))]),
    "time": _parted(TIMES),
    "day": (DAYS,) * 2,
    "way": (WAYS,) * 2,
    "calendar": (CALENDARS,) * 2,
    "on": ([True, False],) * 2,
    "sky": _words("sun, rain, clouds, snow", "fog, storms"),
    "flight": _words("LH 204", "LH 417, BA 93, KL 1022, AF 381, SK 77, TP 560"),
    "address": _words("1 Main Street", "14 Mill Lane, 3 Park Road, 27 King Street, 8 Elm Close, 51 Quay Street"),
}


@dataclass(frozen=True)
class Tool:
    """A tool, what it is asked with, and what it gives back.

    `takes` has the schema of each parameter and the name of its values; those without `?` are required. An argument is
    in a call where the wording names it. `result` is what comes back, by the names of values, and `told` what is said
    of it.
    """

    name: str
    description: str
    takes: dict[str, tuple[dict[str, Any], str]]
    wordings: tuple[str, ...]
    held_out: tuple[str, ...]
    action: str
    result: dict[str, str] = field(default_factory=dict)
    told: str = ""


TEXT, NUMBER, WHOLE, SWITCHED = ({"type": name} for name in ("string", "number", "integer", "boolean"))
TEXTS = {"type": "array", "items": TEXT}
WHEN = {"type": "object", "properties": {"day": TEXT, "time": TEXT}}

TOOLS = (
    Tool(
        "get_weather", "The weather forecast of a city", {"city": (TEXT, "city"), "days?": (WHOLE, "few")},
        ("what is the weather in {city}", "tell me the forecast for {city} for {days} days", "will it rain in {city}",
         "weather for {city}, next {days} days"),
        ("do I need a coat in {city}", "how is the weather in {city} over the next {days} days"),
        "look up the weather", {"sky": "sky", "degrees": "degrees"}, "Expect {sky} in {city}, at {degrees} degrees.",
    ),
    Tool(
        "set_timer", "Start a timer", {"minutes": (WHOLE, "minutes"), "label?": (TEXT, "label")},
        ("set a timer for {minutes} minutes", "start a {minutes} minute timer called {label}", "time {minutes} minutes",
         "timer for {label}, {minutes} minutes"),
        ("count down {minutes} minutes", "I need a {minutes} minute timer for {label}"),
        "set a timer",
    ),
    Tool(
        "convert_currency", "Convert an amount of money",
        {"amount": (NUMBER, "amount"), "source": (TEXT, "currency"), "target": (TEXT, "currency")},
        ("how much is {amount} {source} in {target}", "convert {amount} {source} to {target}",
         "change {amount} {source} into {target}"),
        ("what do I get in {target} for {amount} {source}", "{amount} {source} in {target}"),
        "convert money", {"value": "amount"}, "{amount} {source} are {value} {target}.",
    ),
    Tool(
        "send_message", "Send a text message to people", {"to": (TEXTS, "person"), "text": (TEXT, "message")},
        ("text {to}: {text}", "tell {to} that {text}", "send {to} a message saying {text}", "write to {to}: {text}"),
        ("let {to} know: {text}", "message {to} with the words {text}"),
        "send messages",
    ),
    Tool(
        "switch_light", "Switch the light of a room", {"room": (TEXT, "room"), "on": (SWITCHED, "on")},
        ("turn the {room} light {on}", "switch {on} the light in the {room}", "{room} light {on}"),
        ("light {on} in the {room}", "I want the {room} light {on}"),
        "switch lights",
    ),
    Tool(
        "set_heating", "Set the temperature of a room", {"room": (TEXT, "room"), "degrees": (NUMBER, "degrees")},
        ("heat the {room} to {degrees} degrees", "set the {room} to {degrees} degrees",
         "make it {degrees} in the {room}"),
        ("I want {degrees} degrees in the {room}", "{room} heating to {degrees}"),
        "set the heating",
    ),
    Tool(
        "add_event", "Put an event into a calendar",
        {"title": (TEXT, "title"), "day": (TEXT, "day"), "calendar?": (_one_of(CALENDARS), "calendar")},
        ("add {title} on {day} to my {calendar} calendar", "put {title} into the calendar for {day}",
         "I have {title} on {day}, note it", "schedule {title} in the {calendar} calendar, {day}"),
        ("remember {title} on {day}", "{calendar} calendar: {title}, {day}"),
        "write into the calendar",
    ),
    Tool(
        "find_recipes", "Find recipes by ingredients",
        {"ingredients": (TEXTS, "ingredient"), "minutes?": (WHOLE, "minutes")},
        ("what can I cook with {ingredients}", "find a recipe with {ingredients}",
         "recipes with {ingredients} that take {minutes} minutes"),
        ("I have {ingredients}, what can I make", "a {minutes} minute dish with {ingredients}"),
        "find recipes",
    ),
    Tool(
        "play_music", "Play music of an artist", {"artist": (TEXT, "artist"), "volume?": (WHOLE, "few")},
        ("play {artist}", "put on some {artist}", "play {artist} at volume {volume}", "I would like to hear {artist}"),
        ("some {artist} would be nice", "{artist} at volume {volume}"),
        "play music",
    ),
    Tool(
        "book_table", "Book a table in a restaurant",
        {"restaurant": (TEXT, "restaurant"), "guests": (WHOLE, "few"), "when": (WHEN, "when")},
        ("book a table for {guests} at {restaurant} on {when.day} at {when.time}",
         "reserve {restaurant} for {guests} people, {when.day} {when.time}",
         "get us a table at {restaurant}, {when.day} at {when.time}, {guests} guests"),
        ("table at {restaurant} for {guests}, {when.day}, {when.time}",
         "we are {guests} and want to eat at {restaurant} on {when.day} at {when.time}"),
        "book tables",
    ),
    Tool(
        "translate", "Translate a text", {"text": (TEXT, "phrase"), "language": (TEXT, "language")},
        ("how do you say {text} in {language}", "translate {text} into {language}", "what is {text} in {language}"),
        ("put {text} into {language}", "the {language} for {text}"),
        "translate",
    ),
    Tool(
        "get_route", "The way from one place to another",
        {"start": (TEXT, "city"), "end": (TEXT, "city"), "by?": (_one_of(WAYS), "way")},
        ("how do I get from {start} to {end}", "route from {start} to {end} by {by}", "take me from {start} to {end}",
         "the way to {end} from {start} by {by}"),
        ("directions from {start} to {end}", "I am in {start} and go to {end} by {by}"),
        "find routes", {"minutes": "minutes"}, "From {start} to {end} it takes {minutes} minutes.",
    ),
)  # fmt: skip
NEW_TOOLS = (
    Tool(
        "track_flight", "The state of a flight", {"flight": (TEXT, "flight")},
        (), ("is flight {flight} on time", "when does {flight} land", "status of flight {flight}"),
        "track flights", {"minutes": "minutes"}, "Flight {flight} is {minutes} minutes late.",
    ),
    Tool(
        "order_taxi", "Order a taxi", {"address": (TEXT, "address"), "seats": (WHOLE, "few")},
        (), ("order a taxi for {seats} to {address}", "I need a cab at {address}, {seats} people",
             "taxi with {seats} seats, {address}"),
        "order taxis",
    ),
)  # fmt: skip

JOINS = (("{0}, and {1}", "{0}. Also {1}", "{0} and then {1}"), ("{0}; {1}", "First {0}, after that {1}"))
FRAMES = (
    ("{0}", "{0}", "please {0}", "{0}, please", "hi, {0}", "{0}, thanks"),
    ("{0}", "hello there, {0}", "{0}, now"),
)
REFUSAL = "I have no tool to {0}."
TRAIN_TALK = """
    hello: Hello! What can I do for you? / thank you: You are welcome. / who are you: I am an assistant. /
    tell me a joke: Why did the bicycle fall over? It was two tired. / what is 2 plus 2: It is 4. /
    what is the capital of France: It is Paris. / I am bored: How about a walk? /
    how old are you: I have no age. / do you like cats: I do. / what colour is the sky: It is blue. /
    never mind: All right. / how many days has a week: It has seven. / that was great: I am glad to hear it. /
    what is a haiku: A poem of three lines. / good night: Sleep well. / can you help me: Yes. What do you need?
"""
HELD_OUT_TALK = """
    good evening: Good evening! / what is the capital of Italy: It is Rome. / do you like dogs: I do. /
    what is 3 plus 5: It is 8. / you are kind: Thank you. / how many months has a year: It has twelve. /
    I am tired: Then rest a little. / what is a sonnet: A poem of fourteen lines.
"""
TALK = (_talk(TRAIN_TALK), _talk(HELD_OUT_TALK))


Call = tuple[str, dict[str, Any]]  # a tool's name and its arguments


@dataclass
class Drawing:
    """Draws the rows of one file. `part` is 0 for training and 1 for held-out rows, `about` what they ask for.

    No row shows a set of tools of `kept_back`.
    """

    draw: random.Random
    part: int
    about: Sequence[Tool]
    kept_back: set[frozenset[str]]

    def row(self, kind: str) -> dict[str, Any]:
        """A row of one kind of `KINDS`."""
        tools = self._tools(kind)
        messages = self._refusing(tools) if kind == "none" else self._calling(tools, kind)
        return {"messages": messages, "tools": [_definition(tool) for tool in tools]}

    def _tools(self, kind: str) -> list[Tool]:
        fitting = [tool for tool in self.about if tool.told or kind != "told"]
        sizes = [size for size, share in SIZES.items() for _ in range(share)]
        while True:
            asked = self.draw.choice(fitting)
            others = self.draw.sample([tool for tool in TOOLS if tool is not asked], self.draw.choice(sizes) - 1)
            shown = self.draw.sample([asked, *others], len(others) + 1)
            if frozenset(tool.name for tool in shown) not in self.kept_back:
                return shown

    def _calling(self, tools: Sequence[Tool], kind: str) -> list[dict[str, Any]]:
        asked = [tool for tool in tools if tool in self.about and (tool.told or kind != "told")]
        if kind == "two":
            (first, one), (second, other) = (self._request(self.draw.choice(asked)) for _ in range(2))
            if one == other:
                return self._calling(tools, kind)
            return [self._user(self.draw.choice(JOINS[self.part]).format(first, second)), _assistant(one, other)]
        tool = self.draw.choice(asked)
        text, call = self._request(tool)
        messages = [self._user(text), _assistant(call)]
        if kind == "told":
            result = {key: self._value(values, TEXT) for key, values in tool.result.items()}
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": json.dumps(result)})
            messages.append({"role": "assistant", "content": _filled(tool.told, call[1] | result)})
        return messages

    def _refusing(self, tools: Sequence[Tool]) -> list[dict[str, Any]]:
        if self.draw.random() < 0.5:
            text, answer = self.draw.choice(TALK[self.part])
        else:
            missing = self.draw.choice([tool for tool in TOOLS if tool not in tools])
            text, answer = self._request(missing)[0], REFUSAL.format(missing.action)
        return [self._user(text), {"role": "assistant", "content": answer}]

    def _request(self, tool: Tool) -> tuple[str, Call]:
        """What a person says, and the call that is meant: of the arguments that the wording names."""
        wording = self.draw.choice(tool.held_out if self.part else tool.wordings)
        named = {name.split(".")[0] for name in SLOT.findall(wording)}
        arguments: dict[str, Any] = {}
        for key, (schema, values) in tool.takes.items():
            name = key.removesuffix("?")
            while name in named and (name not in arguments or list(arguments.values()).count(arguments[name]) > 1):
                arguments[name] = self._value(values, schema)
        return _filled(wording, arguments), (tool.name, arguments)

    def _value(self, values: str, schema: dict[str, Any]) -> Any:
        if schema["type"] == "object":
            return {name: self._value(name, each) for name, each in schema["properties"].items()}
        if schema["type"] == "array":
            return self.draw.sample(VALUES[values][self.part], self.draw.randint(1, 3))
        return self.draw.choice(VALUES[values][self.part])

    def _user(self, text: str) -> dict[str, Any]:
        return {"role": "user", "content": self.draw.choice(FRAMES[self.part]).format(text)}


def _filled(text: str, values: dict[str, Any]) -> str:
    """A text with its slots filled by values as a person says them."""

    def said(name: str) -> str:
        value: Any = values
        for key in name.split("."):
            value = value[key]
        if isinstance(value, list):
            return " and ".join(part for part in (", ".join(value[:-1]), value[-1]) if part)
        return ("off", "on")[value] if isinstance(value, bool) else str(value)

    return SLOT.sub(lambda slot: said(slot[1]), text)


def _assistant(*calls: Call) -> dict[str, Any]:
    made = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(calls, 1)
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


def _definition(tool: Tool) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {name.removesuffix("?"): schema for name, (schema, _) in tool.takes.items()},
        "required": [name for name in tool.takes if not name.endswith("?")],
    }
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def made() -> dict[str, list[dict[str, Any]]]:
    """The rows of every file, by its name."""
    draw = random.Random(SEED)
    held_out: set[frozenset[str]] = set()
    files: dict[str, list[dict[str, Any]]] = {}
    for name, count in ROWS.items():
        part = 0 if name == "train.jsonl" else 1
        about = NEW_TOOLS if name == "new_tools.jsonl" else TOOLS
        drawing = Drawing(draw, part, about, set() if part else held_out)
        kinds = [kind for kind, share in KINDS.items() for _ in range(share)]
        found: dict[str, dict[str, Any]] = {}
        while len(found) < count:
            row = drawing.row(kinds[len(found) % len(kinds)])
            found.setdefault(json.dumps(row["messages"][0]), row)
        files[name] = list(found.values())
        draw.shuffle(files[name])
        if name == "evaluation.jsonl":
            held_out = {frozenset(tool["function"]["name"] for tool in row["tools"]) for row in files[name]}
    return files


def write(directory: Path) -> None:
    """Write all files into `directory`, which is made if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in made().items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
