"""The guard's vocabulary: words that mean little, negate, ask or name, and the stem of a word.

The lists are meant to be read and added to; words of one meaning and their opposites are in
`cacher.semantic.opposites`.
"""

from __future__ import annotations

from functools import lru_cache


def words(text: str) -> frozenset[str]:
    """Return the words of a table."""
    return frozenset(text.split())


_IRREGULAR = {
    "https": "https", "windows": "windows", "news": "news", "feet": "foot", "men": "man",
    "women": "woman", "children": "child", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "wives": "wife", "lives": "life", "knives": "knife",
    "leaves": "leaf", "spoke": "speak", "spoken": "speak", "wrote": "writ", "written": "writ",
    "ate": "eat", "eaten": "eat", "bought": "buy", "sold": "sell", "paid": "pay", "made": "mak",
    "died": "die", "dying": "die", "built": "build", "won": "win", "lost": "los", "sent": "send",
}  # fmt: skip


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return what the forms of a lower-case word have in common.

    >>> [stem(word) for word in ("stops", "stopped", "stopping", "cities", "city", "increasing")]
    ['stop', 'stop', 'stop', 'city', 'city', 'increas']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, least in (("ing", 6), ("ed", 5)):
        if word.endswith(ending) and len(word) >= least:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


# A word with nothing of its own to say: never a name, never what a text is about.
FUNCTION = words(
    """
    a an the this that these those some any each every all both such own same other another
    much i me my mine we us our ours you your yours he him his she her hers it its they them
    their one i'm i'd i've i'll myself yourself itself am is are was were be been being do
    does did done doing have has had having can could may might must shall should will would
    need let's and or but nor so yet if then else than as because while though although
    since until unless of to in on at by for from with without about into onto over under up
    down out off through between among against during before after above below within per
    via versus vs what which who whom whose when where why how not no never just only also
    too very really quite even still ever already again please there here more most less
    least many few lot lots get got getting gets go going goes make makes making want like
    know tell explain give show say mean means thing things something anything way ways
    """
)

# How a request begins: a capital there says nothing.
STARTERS = FUNCTION | words(
    """
    add analyse analyze anyone best book break buy calculate call change check compare
    compute contrast convert create dear define definition delete describe design details
    did difference differences discuss does draft evaluate everyone example examples expand
    facts find fix generate good has hello help hey hi history ideas identify info
    information install learn list look meaning name ok okay open order outline plan play
    point pronounce prove reasons recommend remove rewrite search sell send set shorten
    simplify solve somebody someone sorry spell steps suggest summarise summarize teach
    thanks tips top translate turn understand update walk well write yes
    """
)

# A text with one of these is English, whatever else is in it.
ENGLISH = words(
    """
    the what how is are does do did my of to and for why who where when which can could
    should would will it this that i you your with from have has was were be if not there
    their an please explain don't doesn't isn't can't i'm what's how's who's let's it's
    """
)
# A text with one of these and none of the above is not.
FOREIGN = words(
    """
    le la les des du une est et que qui pour dans avec sur der das und ist wie ein eine
    nicht von mit den el los las una por para con como es un che di il per non è och att det
    som hur vad är een het van wat hoe jak co czy se nie na do o os uma não onde quem
    """
)

NEGATIONS = words(
    """
    not no never without none nobody nothing nowhere neither nor cannot non dont doesnt
    didnt isnt arent wasnt werent cant couldnt wont wouldnt shouldnt havent hasnt hadnt
    mustnt aint
    """
)
# Where another would negate: "fails" is "does not work", "sugar-free" is with "no" sugar.
SOFT_NEGATIONS = words(
    """
    fail fails failed failing failure broken refuse refuses refused unable stop stops
    stopped stopping prevent prevents preventing avoid avoids avoiding avoided lack lacks
    lacking missing free impossible except excluding exclude skip instead rather forbidden
    forbid ban banned prohibited deny denied stuck wrong trouble cease zero unlike skipping
    """
)
# After a negation: it is about who asks, not about what is asked.
UNSURE = words(
    """
    sure know understand figure remember recall idea clue mind matter doubt seem only just
    worry necessarily
    """
)
PRONOUNS = words("i you he she it we they there that this")
# Begin like an opposite and are none.
NOT_NEGATED = words(
    """
    until unless under unit union unique universe unify uncle unto disease discover discount
    discuss display distance distress dispatch district dismiss disco disposal disorder
    disable inform install into inside input increase indeed invent intent intend intense
    invest income include index infant infect inflammable invaluable inland inner inch
    immediate import important impact impress improve imagine image impose implant irate
    iron illness illustrate illuminate unanimous interest internal internet interview
    introduce
    """
)
NEGATING_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "mis")

# Verbs whose meaning the next of these particles turns: "turn the light on".
PARTICLE_VERBS = words(
    """
    turn turns turned turning switch switched switching power powered powering put log
    logged logging sign signed signing plug plugged check checked checking opt opted zoom
    zooming scroll scrolling roll rolling scale scaling speed slow move moving go going goes
    come coming clock clocked clocking walk run jump swipe swiping
    """
)
PARTICLES = words("on off in out up down")

TIMES = words(
    """
    week month year day weekend night morning evening summer winter spring autumn quarter
    century decade season semester monday tuesday wednesday thursday friday saturday sunday
    time election
    """
)
NEARNESS = words("this next last previous past coming")

# Other names of one thing, a line each.
SAME_NAMES = """
usa us united_states america american americans
uk united_kingdom britain british great_britain
france french
germany german germans
spain spanish
italy italian
japan japanese
china chinese
russia russian
india indian
mexico mexican
canada canadian
brazil brazilian
australia australian
ireland irish
scotland scottish
england english
greece greek
turkey turkish
poland polish
sweden swedish
norway norwegian
denmark danish
netherlands dutch holland
portugal portuguese
switzerland swiss
egypt egyptian
rome roman romans
athens athenian
finland finnish
iceland icelandic
wales welsh
thailand thai
philippines filipino
korea korean
europe european
africa african
nyc new_york
javascript js
typescript ts
postgresql postgres
kubernetes k8s
mac macos macbook
tv television
pc computer
ceo chief_executive
coke coca_cola cola
google_chrome chrome
ms microsoft
wwii ww world_war
covid coronavirus
bible biblical
christmas xmas
ok okay
"""

# Names that are names in any case of letters.
KNOWN_NAMES = words(
    """
    paris london rome berlin madrid tokyo beijing moscow vienna lisbon dublin amsterdam
    brussels athens prague warsaw budapest stockholm oslo copenhagen helsinki istanbul cairo
    delhi mumbai bangkok singapore sydney melbourne toronto vancouver montreal chicago
    boston seattle houston dallas denver miami atlanta france germany spain italy japan
    china russia india mexico canada brazil australia ireland scotland england greece poland
    sweden norway denmark finland netherlands portugal switzerland austria belgium egypt
    korea vietnam thailand indonesia nigeria kenya argentina chile peru ukraine israel iran
    iraq pakistan california texas florida africa europe asia french german spanish italian
    japanese chinese russian portuguese arabic hindi korean greek latin english american
    british python javascript typescript kotlin haskell scala perl django flask pytorch
    tensorflow mysql postgresql postgres sqlite mongodb redis docker kubernetes linux ubuntu
    macos android ios iphone ipad github gitlab google microsoft amazon facebook instagram
    twitter tiktok whatsapp youtube netflix spotify tesla toyota honda gmail outlook paypal
    einstein newton darwin shakespeare mozart beethoven picasso napoleon lincoln obama trump
    biden mars venus jupiter saturn neptune uranus
    """
)

# Around these the order of the words is what is asked; around "and" or "or" it is not.
RELATIONS = words(
    """
    to into from than by over under above below in on of for before after against per as
    with without minus
    """
)
COMMUTING = words("and or plus times multiply between multiplied sum add adding product average x")
AUXILIARIES = words("do does did can could will would should may might must is are was were")
DETERMINERS = words("a an the my your his her its our their some any")

NAMES_OF = {
    name: tuple(tuple(stem(word) for word in other.split("_")) for other in line.split())
    for line in SAME_NAMES.strip().splitlines()
    for name in (tuple(stem(word) for word in form.split("_")) for form in line.split())
}
