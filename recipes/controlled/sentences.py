"""The words and sentences of the three parts, in separate lists for training, development and test.

The lists share no content words. So neither the deciding words nor the sentences of the test occur in training.
"""

SPLITS = ("train", "development", "test")

GOOD = {
    "train": (
        "beautiful", "wonderful", "lovely", "happy", "friendly", "gentle", "brilliant", "perfect", "charming", "generous",
        "cheerful", "fantastic", "delightful", "pleasant", "kind", "sweet", "excellent", "amazing", "magnificent", "graceful",
        "honest", "joyful", "loving", "peaceful", "pretty", "splendid", "thoughtful", "funny", "great", "nice",
        "healthy", "safe", "clean", "wise", "romantic", "relaxing", "inspiring", "famous", "successful", "fabulous",
    ),
    "development": ("attractive", "impressive", "terrific", "loyal", "blessed", "helpful", "warm", "outstanding"),
    "test": (
        "gorgeous", "superb", "elegant", "adorable", "glorious", "caring", "lucky", "clever", "heavenly", "tender",
        "faithful", "brave", "incredible", "polite", "smiling", "fresh", "comfortable", "festive", "talented", "sunny",
        "precious", "stunning", "magical", "awesome", "delicious", "remarkable", "noble", "calm", "playful", "proud",
        "colourful", "merry", "handsome", "grateful", "sincere", "heroic", "flourishing", "respected", "welcoming", "beloved",
    ),
}  # fmt: skip
BAD = {
    "train": (
        "terrible", "horrible", "ugly", "awful", "nasty", "dirty", "cruel", "angry", "miserable", "dreadful",
        "disgusting", "evil", "gloomy", "violent", "wicked", "rude", "boring", "rotten", "broken", "hostile",
        "jealous", "lonely", "painful", "selfish", "stupid", "sad", "vicious", "bitter", "filthy", "hateful",
        "sick", "dead", "weak", "foolish", "frightening", "depressing", "annoying", "failed", "guilty", "dangerous",
    ),
    "development": ("stinking", "brutal", "lazy", "scary", "cursed", "useless", "cold", "appalling"),
    "test": (
        "hideous", "tragic", "shameful", "greedy", "creepy", "savage", "toxic", "corrupt", "bloody", "deadly",
        "treacherous", "cowardly", "disastrous", "arrogant", "crying", "mouldy", "damaged", "ruined", "clumsy", "haunted",
        "grim", "ghastly", "lousy", "poisonous", "smelly", "shabby", "worthless", "pathetic", "sinister", "abusive",
        "dreary", "repulsive", "rusty", "wretched", "mad", "infected", "criminal", "dishonest", "hopeless", "dull",
    ),
}  # fmt: skip
"""Positive and negative adjectives."""

PAIRS = {
    "train": (
        "She carried a {} bag into a {} room.",
        "The {} teacher was talking to the {} driver.",
        "They walked from the {} garden to the {} river.",
        "He wrote a {} letter about the {} city.",
        "We saw a {} film in a {} theatre.",
        "The {} doctor lives near the {} station.",
        "I remember the {} house and the {} street.",
        "My {} cousin bought a {} car.",
        "There was a {} picture on the {} wall.",
        "A {} man sat beside a {} woman.",
        "The {} book belongs to the {} student.",
        "You met a {} singer at the {} party.",
    ),
    "development": (
        "His {} uncle works in a {} office.",
        "That {} song was about a {} soldier.",
        "We had a {} lunch on the {} beach.",
        "The {} horse jumped over the {} fence.",
    ),
    "test": (
        "The {} farmer opened the {} door.",
        "Our {} neighbour painted the {} boat.",
        "It was a {} story from a {} village.",
        "I gave the {} waiter a {} coat.",
        "A {} player came to the {} school.",
        "The {} child stood under the {} bridge.",
        "She left the {} hotel in a {} taxi.",
        "The {} nurse spoke with the {} lawyer.",
        "He sold the {} table and the {} chairs.",
        "You can see a {} tower behind the {} market.",
    ),
}
"""Sentences with places for a positive and a negative adjective, in any order. The stressed one decides valence."""

DID_GOOD = {
    "train": (
        "loved", "admired", "praised", "thanked", "hugged", "rescued", "helped", "cured", "welcomed", "rewarded",
        "forgave", "saved", "protected", "encouraged", "comforted", "kissed", "healed", "respected", "adored", "trusted",
        "supported", "cheered", "delighted", "inspired", "married", "greeted", "enjoyed", "invited", "fed", "freed",
    ),
    "development": ("befriended", "treasured", "embraced", "cared for", "defended", "pleased"),
    "test": (
        "congratulated", "cherished", "appreciated", "applauded", "celebrated", "liberated", "cuddled", "entertained", "amused",
        "made friends with", "fell in love with", "was proud of", "took good care of", "was grateful to", "sang for",
        "gave flowers to", "smiled at", "laughed with", "stood up for", "gave a present to", "danced with", "cooked dinner for",
        "was good to", "was kind to", "was fond of", "made peace with", "looked up to", "reassured", "pampered", "honoured",
    ),
}  # fmt: skip
DID_BAD = {
    "train": (
        "hated", "attacked", "killed", "robbed", "insulted", "betrayed", "punished", "threatened", "hurt", "injured",
        "abandoned", "poisoned", "kidnapped", "cheated", "blamed", "mocked", "tortured", "despised", "murdered", "humiliated",
        "slapped", "scared", "bullied", "ignored", "deceived", "arrested", "wounded", "accused", "kicked", "cursed",
    ),
    "development": ("tormented", "strangled", "harassed", "lied to", "beat", "rejected"),
    "test": (
        "assaulted", "stabbed", "terrified", "disgusted", "ridiculed", "offended", "abused", "assassinated", "blackmailed",
        "stole from", "spat at", "was ashamed of", "was angry with", "was afraid of", "shouted at",
        "took revenge on", "threw stones at", "fired a gun at", "broke a promise to", "argued with", "declared war on",
        "was cruel to", "was rude to", "was tired of", "looked down on", "drove over", "suffocated", "crushed", "choked",
        "disappointed",
    ),
}  # fmt: skip
"""Verbs for good and bad deeds to another person."""

DEEDS = {
    "train": (
        "My brother {} the woman on the way to the *station*.",
        "The farmer {} his son after lunch on *Tuesday*.",
        "Our teacher {} the girl in front of the *library*.",
        "The old man {} his neighbour in the middle of the *afternoon*.",
        "The captain {} the *sailor* at the other end of the island.",
        "A *student* {} the driver on the road to the mountains.",
        "Her *uncle* {} the boy at the corner of the street.",
        "The tailor {} the cook in the *kitchen* of the hotel.",
    ),
    "development": (
        "The doctor {} the gardener by the side of the *canal*.",
        "His *aunt* {} the visitor in the room on the left.",
    ),
    "test": (
        "The pilot {} the passenger on the *second* floor of the airport.",
        "My sister {} the baker at the entrance to the *market*.",
        "The *clerk* {} the carpenter on the platform of the railway.",
        "His cousin {} the tourist in the car park of the *museum*.",
        "The lawyer {} the painter at a *table* near the window.",
    ),
}
"""Sentences with a place for a deed. The stress is on another word. The deed decides valence."""

STATEMENTS = {
    "train": (
        "The meeting begins at ten in the morning.",
        "There are seven books on the table.",
        "The bus to the city leaves every hour.",
        "He put the keys in the drawer.",
        "The report has twelve pages and two maps.",
        "Our office is on the third floor.",
        "She bought paper and two pencils.",
        "The window of the kitchen is open.",
        "They will come back on Wednesday.",
        "The lamp stands next to the computer.",
        "The shop on the corner sells shoes.",
        "It takes an hour to get to the lake.",
        "The letter was written in the evening.",
        "My jacket is hanging behind the door.",
        "The road goes along the river.",
        "We need a number and an address.",
    ),
    "development": (
        "The glass is standing on the shelf.",
        "Her train arrives at platform nine.",
        "The box contains some old newspapers.",
        "He will call again in the afternoon.",
    ),
    "test": (
        "The library closes at six on Saturday.",
        "A man is waiting in the hall.",
        "The second bottle is under the sink.",
        "They moved to another town in April.",
        "The cloth is lying on the fridge.",
        "There is a map of the building on the wall.",
        "You can park the car behind the house.",
        "The bag was left beside the stairs.",
        "It will be ready in a few days.",
        "The paper was printed in the capital.",
    ),
}
"""Neutral sentences. Their delivery decides arousal."""
