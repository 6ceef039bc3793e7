"""Question and answer patterns that the concept table is poured into.

Fields: {a} "a cat", {A} "A cat", {pl} "cats", {Pl} "Cats", {the} "the cat", {It} "It" or "The
doctor", {is} the definition, {f} and {g} facts, {w} where, {kind} "an animal". Fields ending in 2
belong to a second concept of the same category, fields ending in 3 to one of any category.
"""

from dataclasses import dataclass

EAT = "food|fruit|vegetable|dessert|drink"
GO = "place|country"
THING = f"{EAT}|animal|vehicle|object|tool|technology|clothes|nature"
ALL = ""


@dataclass(frozen=True)
class Template:
    """Wordings of one question, of its answers, and the emoji that its intent adds."""

    name: str
    categories: str
    questions: str
    answers: str
    intents: str = ""
    word: str = ""
    weight: float = 1.0


TEMPLATES = [
    Template(
        "define", ALL,
        "What is {a}?|What exactly is {a}?|Explain what {a} is.|Define {name}.|Explain {a} to me.|"
        "Do you know what {a} is?|Tell me what {a} is.|What does {name} mean?|"
        "What do you mean by {a}?|Explain {name} to a child.",
        "{A} is {is}.|{A} is {is}. {It} {f}.|{A} is {is}. {It} {f} and {g}.",
        "", "{kindword}", 2.0,
    ),
    Template(
        "about", ALL,
        "Tell me about {pl}.|Tell me something about {a}.|What do you know about {pl}?|"
        "What can you tell me about {pl}?|Describe {a}.|Describe {a} in one sentence.|"
        "Talk about {pl}.|Say something about {pl}.|Give me a fact about {pl}.|"
        "Write a sentence about {a}.|I want to know more about {pl}.|{Pl}?|Teach me about {pl}.|"
        "Let us talk about {pl}.|Can you comment on {pl}?|What are {pl} like?|"
        "Give me some facts about {pl}.|What should I know about {a}?|Write about {a}.|"
        "Tell me all about {pl}.|Describe {the} to me.|Comment on {pl}.|Inform me about {pl}.",
        "{A} is {is}. {It} {f} and {g}.|{A} {f} and {g}.|{A} is {is}. {It} {f}.",
        "", "{name}", 3.0,
    ),
    Template(
        "where", ALL,
        "Where can I find {a}?|Where do you find {pl}?|Where is {a}?|Where can I see {a}?|"
        "Where should I look for {a}?|I am looking for {a}.",
        "You can find {a} {w}.|{A} can be found {w}.|Look for {a} {w}.",
        "🔍 📍 👀 🗺️",
    ),
    Template(
        "like", ALL,
        "Do you like {pl}?|Do you love {pl}?|What do you think about {pl}?|I love {pl}.|"
        "What do you think of {pl}?|I really like {pl}.|Are you a fan of {pl}?|"
        "What is your opinion on {pl}?|My children love {pl}.",
        "Yes, I like {pl}. {A} {f}.|I like {pl} a lot because {a} {f}.|{Pl}! I like that {a} {f}.",
        "❤️ 😍 👍 😊", "Yes",
    ),
    Template(
        "why", ALL,
        "Why do people like {pl}?|Why are {pl} special?|What is special about {pl}?|"
        "Why do you like {pl}?|What makes {a} so special?|Why do we need {pl}?|"
        "What is good about {pl}?|What is great about {a}?|Why are {pl} so interesting?",
        "People like {pl} because {a} {f} and {g}.|{A} is special because it {f}.|"
        "Because {a} {f} and {g}.",
        "❤️ 🤔 ⭐ ➡️",
    ),
    Template(
        "story", ALL,
        "Tell me a story about {a}.|Write a short story about {a}.|Make up a story with {a}.|"
        "Tell me a bedtime story about {a}.|Can you tell a story about {a}?",
        "Once upon a time, a little girl named {girl} dreamed of {a}. Her mom told her that {a} "
        "{f}. {girl} smiled and said, \"How nice!\"|One day, {boy} saw {a}. \"Look!\" he said. "
        "{A3} was there too. They all had a lot of fun together.|"
        "Once there was a boy named {boy} who thought about {a} all day. He learned that {a} {f} "
        "and {g}. Then he went home happy.",
        "📖 😊 🌟 👧", "", 2.0,
    ),
    Template(
        "poem", ALL,
        "Write a poem about {a}.|Write a short poem about {pl}.|Make a rhyme about {a}.",
        "Roses are red, the sky is blue, {a} {f}, and I like it too.|"
        "Oh {name}, dear {name}, I think of you. {A} {f}, and that is true.",
        "📝 ❤️ 🎶", "", 0.5,
    ),
    Template(
        "afraid", ALL,
        "I am afraid of {pl}.|I do not like {pl}.|I hate {pl}.|I am worried about {pl}.",
        "Do not worry. {A} {f}.|That is a pity, because {a} {f}.|Why? {A} is {is}.",
        "😨 😟 🤔", "", 0.5,
    ),
    Template(
        "want", THING,
        "I want {a}.|I need {a}.|I would like to have {a}.|Can I have {a}?|Give me {a}.|"
        "Can you give me {a}?|I dream of {a}.|Should I get {a}?|I have {a}.|I bought {a}.",
        "That sounds good! {A} {f}.|I can not give you {a}, but I can tell you that it {f}.|"
        "{A} is a nice choice because it {f}.",
        "😊 👍 🎁 🛒",
    ),
    Template(
        "saw", ALL,
        "I saw {a} today.|Look, {a}!|I was thinking about {pl}.|There is {a} in my story.|"
        "My friend told me about {pl}.|I can see {a}.|I had a dream about {a}.",
        "How nice! {A} {f}.|Interesting! {A} is {is}.|Oh, {a}! {It} {f} and {g}.",
        "👀 😮 😊 💭",
    ),
    Template(
        "yes", ALL,
        "Is {a} {is}?|Is it true that {a} {f}?|Am I right that {a} {f}?|Is {a} {kind}?",
        "Yes, {a} is {is}.|Yes, that is true. {A} {f}.|Yes, that is right.",
        "✅ 👍", "Yes",
    ),
    Template(
        "no", ALL,
        "Is {a} {is3}?|Is {a} {kind3}?",
        "No, {a} is {is}.|No, {a} is {kind}.",
        "❌ 👎", "No",
    ),
    Template(
        "kind", ALL,
        "What kind of thing is {a}?|What type of thing is {a}?|Which group does {a} belong to?",
        "{A} is {kind}.|{A} belongs to the {kinds}.", "", "{kindword}", 0.5,
    ),
    Template(
        "eat", EAT,
        "What does {a} taste like?|Is {a} healthy?|I had {a} for lunch.|Should I try {a}?|"
        "I am having {a} now.|Do you want {a}?|Can we have {a} for dinner?|Is {a} good for me?|"
        "What goes well with {a}?|I want to eat something like {a}.|My mom made {a}.",
        "{A} {f}. Enjoy it!|Yum! {A} is {is}.|It is tasty, and {a} {f}.|{A} goes well with {a2}.",
        "😋 🍽️ 👍", "", 1.5,
    ),
    Template(
        "animal", "animal",
        "What does {a} do all day?|Can I keep {a} as a pet?|What does {a} look like?|"
        "How does {a} live?|What does {a} eat?|Where do {pl} live?|Where does {a} sleep?|"
        "Do {pl} like people?|My favorite animal is {a}.|Are {pl} dangerous?",
        "{A} {f} and {g}.|{A} lives {w}. It {f}.|{A} is {is} that lives {w}.",
        "🏠 🌿 👀", "", 2.0,
    ),
    Template(
        "go", GO,
        "What can I do in {the}?|I want to visit {the}.|How do I get to {the}?|"
        "Plan a trip to {the}.|Let us go to {the}.|What should I bring to {the}?|"
        "What is it like in {the}?|I am going to {the} tomorrow.|Have you been to {the}?|"
        "What can you see in {the}?|Plan a family trip to {the}.|Plan a day in {the}.|"
        "What happens in {the}?|I live near {the}.",
        "{The} is worth a visit. It {f} and {g}.|You can go there and see that {the} {f}.|"
        "Pack your bag, travel there, and enjoy it. {The} {f}.|{The} is {is}. It {f}.",
        "✈️ 🚗 🎒 🗺️ 🧳 🚶", "", 4.0,
    ),
    Template(
        "job", "job|people",
        "What does {a} do?|I want to become {a}.|How can I become {a}?|My mother is {a}.|"
        "Where does {a} work?|Is it hard to be {a}?|What does {a} need?|My uncle is {a}.",
        "{A} is {is}. {It} {f} and {g}.|{A} {f} and {g}.|That is a nice job. {A} {f}.",
        "💪 👍 ⭐", "", 2.0,
    ),
    Template(
        "play", "sport|art|school",
        "How do I learn {name}?|Can you teach me {name}?|Is {name} hard to learn?|"
        "I am good at {name}.|Is {name} fun?|How can I get better at {name}?|Why should I try {a}?",
        "Practice a little every day. {A} {f}.|It takes time, but {a} {f}.|{A} {f} and {g}.",
        "💪 📚 🏆 😊", "", 2.0,
    ),
    Template(
        "feel", "feeling|idea",
        "What does {name} feel like?|How do I find {name}?|What can I do about {name}?|"
        "What is the secret of {name}?|How important is {name}?|I think about {name} a lot.",
        "{A} {f} and {g}.|{A} is {is}. It {f}.|Remember that {a} {f}.",
        "💭 🤔 ✨", "", 3.0,
    ),
    Template(
        "use", "object|tool|technology|clothes|vehicle",
        "What do I need {a} for?|How do I use {a}?|What can you do with {a}?|How does {a} work?|"
        "Why should I buy {a}?|My {name} is broken.|I lost my {name}.|How much is {a}?|"
        "Can you help me with my {name}?",
        "{A} is {is}. It {f}.|{A} {f} and {g}.|You can use it with care. {A} {f}.",
        "🔧 👍 🤔 💡", "", 1.5,
    ),
    Template(
        "weather", "weather|season|sky|time|holiday",
        "What do people do in {name}?|What happens in {name}?|How do I prepare for {a}?|"
        "When is {a}?|What comes with {a}?|Are you ready for {a}?|What do you do on {name}?",
        "{A} {f} and {g}.|{A} is {is}. It {f}.|You can enjoy it. {A} {f}.",
        "👍 😊 👀", "", 2.0,
    ),
    Template(
        "two", ALL,
        "What is the difference between {a} and {a2}?|Compare {a} and {a2}.|{A} or {a2}?|"
        "Which is better, {a} or {a2}?|Do you prefer {pl} or {pl2}?",
        "{A} {f}, but {a2} {f2}.|{A} is {is}, and {a2} is {is2}.|I prefer {pl}, because {a} {f}.",
        "🆚2 ❤️2 🤔2 2", "{name}", 1.5,
    ),
    Template(
        "pair", ALL,
        "Tell me about {a} and {a3}.|What do you know about {a} and {a3}?|"
        "Write a sentence with {a} and {a3}.|What do {a} and {a3} have in common?|"
        "I like {pl} and {pl3}.",
        "{A} {f}, and {a3} {f3}.|{A} is {is}. {A3} is {is3}.",
        "3 ❤️3 ➕3", "", 1.5,
    ),
    Template(
        "tale", ALL,
        "Tell me a story about {a} and {a3}.|Write a story with {a} and {a3}.|"
        "Make up a short story about {a} and {a3}.|I want a story about {a} and {a3}.",
        "Once upon a time, there was {a}. One day, {boy} found {a3} there too. He learned that "
        "{a} {f}, and that {a3} {f3}. He was very happy.|"
        "Once upon a time, {girl} dreamed of {a} and {a3}. In her dream, {a} {f}, and {a3} {f3}. "
        "When she woke up, she told her mom.",
        "3 📖3 😊3 🌟3", "", 1.0,
    ),
]  # fmt: skip

KINDS = {
    "animal": "an animal/animals", "fruit": "a fruit/fruits", "vegetable": "a vegetable/vegetables",
    "food": "a food/foods", "dessert": "a dessert/desserts", "drink": "a drink/drinks",
    "sky": "something in the sky/things in the sky", "weather": "weather/weather words",
    "time": "a time/times", "season": "a season/seasons",
    "nature": "a part of nature/things in nature", "place": "a place/places",
    "body": "a part of the body/parts of the body", "vehicle": "a vehicle/vehicles",
    "object": "a thing at home/things at home", "job": "a job/jobs", "people": "a person/people",
    "feeling": "a feeling/feelings", "idea": "an idea/ideas",
    "holiday": "a time to celebrate/things to celebrate",
    "clothes": "a piece of clothing/clothes", "tool": "a tool/tools",
    "technology": "a machine/machines", "art": "a kind of art/kinds of art",
    "sport": "a sport or hobby/sports", "fantasy": "a thing from stories/things from stories",
    "country": "a place on the map/places on the map", "color": "a color/colors",
    "school": "a school subject/school subjects",
}  # fmt: skip
