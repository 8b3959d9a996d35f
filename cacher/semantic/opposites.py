"""The guard's table of opposites, with dates, units and questions.

A line is an axis, its poles separated by ``|``: words of one pole may stand for each other, words
of two poles must not. Inflected forms are found by their stem, so only irregular ones are written
out. ``turned_on`` is an "on" that belongs to a verb, as in "turn the light on"; ``may_month`` a
"May" with a capital.
"""

from __future__ import annotations

from cacher.semantic.words import stem

OPPOSITES = """
turned_on enable enabled activate activation | turned_off off disable disabled deactivate \
deactivation
turned_in login | turned_out logout
turned_up | turned_down
up upward upwards upstairs uphill | down downward downwards downstairs downhill
increase raise grow boost gain growing higher rise rose risen | decrease reduce lower lessen \
shrink drop decline fall fell fallen reduction
more | less fewer
most | least
maximum max maximal maximize maximise | minimum min minimal minimize minimise
best | worst
better | worse
good | bad
high higher highest | low lower lowest
big bigger biggest large larger largest huge | small smaller smallest little tiny
tall taller tallest | short shorter shortest
long longer longest | short shorter shortest
lengthen | shorten
wide wider widest | narrow narrower narrowest
thick thicker thicken | thin thinner
deep deeper deepest | shallow
heavy heavier heaviest | light lighter lightest
dark darker darkest | light lighter lightest bright brighter
strong stronger strongest strengthen | weak weaker weakest weaken
fast faster fastest quick quicker | slow slower slowest
speed accelerate | slow decelerate
hot hotter hottest warm warmer | cold colder coldest cool cooler
heat warm | cool chill
freeze froze frozen | boil melt thaw
hard harder hardest difficult | easy easier easiest
hard harder | soft softer
wet wetter | dry drier dryer
clean cleaner | dirty
full | empty
rich richer | poor poorer
cheap cheaper cheapest inexpensive affordable | expensive pricier costly
old older oldest | new newer newest
old older oldest elderly | young younger youngest
early earlier earliest | late later latest
ancient | modern
safe safely | dangerous harmful risky
healthy | unhealthy harmful
true | false fake
correct right | wrong
same identical | different
alive living | dead
sleep asleep sleepy | wake awake woke
invite | kick remove
birth born | death die died dies dying dead
win won winning winner | lose lost losing loser
gain | lose lost loss
profit | loss
income earnings revenue | expense expenditure spending
asset | liability
save saving | spend spent
earn | spend spent
buy bought purchase | sell sold sale
buyer | seller
lend lent lending loaned | borrow
lender | borrower
landlord | tenant
employer | employee
teacher | student
parent | child children
doctor | patient
client | server
string text | list array | dictionary dict map | tuple | integer int | float
branch | tag | commit
laptop | tablet | phone smartphone
frontend | backend
sender | recipient receiver
send sent | receive
deposit | withdraw withdrawal withdrew
credit | debit
gross | net
fixed | variable
wholesale | retail
inflation | deflation
import importing | export exporting
upload | download
push | pull
attach | detach
connect | disconnect
pair | unpair
join | leave left quit
enter entering entrance entry | exit leave
arrive arrival arriving | depart departure leave
start started begin began beginning launch | stop stopped end ended ending finish quit close
open opened | close closed shut
lock | unlock
add added adding insert | remove delete removed deleting subtract
add plus addition | subtract minus subtraction | multiply multiplication | divide division
create creation | delete destroy deletion
install installation | uninstall remove
subscribe subscription | unsubscribe cancel
follow | unfollow
show unhide reveal | hide hidden
allow allowed permit permitted enable | forbid forbidden prohibit block ban banned deny disallow
accept accepted approve | reject rejected decline refuse deny
agree | disagree
like love | dislike hate
include including | exclude excluding
succeed success pass work worked working | fail failure
encode encoding | decode decoding
encrypt encryption | decrypt decryption
compress compression zip | decompress extract unzip
expand | collapse
undo | redo
merge combine join | split separate
hire hiring hired | fire fired firing
marry married marriage | divorce divorced
attack | defend defense defence
advantage benefit pro upside strength | disadvantage drawback con downside weakness
cause causing | prevent prevention avoid
cause | effect
symptom | cause | treatment treat cure remedy | prevention prevent
strengths | weaknesses
positive | negative
odd | even
numerator | denominator
ascending asc | descending desc
before prior | after following
first original | last latest recent newest current
previous | next
past | future
past | present
morning | afternoon | evening night
day daytime | night nighttime
rise sunrise dawn | set sunset dusk
am | pm
summer | winter | spring | autumn
breakfast | lunch | dinner supper
north northern | south southern | east eastern | west western
left | right
top | bottom
front | back rear
inside indoor indoors inner interior | outside outdoor outdoors outer exterior
internal | external
above over | below under beneath
upper | lower
near nearest close closer closest nearby | far farther farthest further furthest
horizontal horizontally | vertical vertically
row | column
landscape | portrait
clockwise | counterclockwise anticlockwise
input | output
into | out
read reading | write writing written wrote
public | private
local | remote
online | offline
wired | wireless
manual manually | automatic automatically
temporary temporarily | permanent permanently
required mandatory compulsory | optional
static | dynamic
synchronous | asynchronous
singular | plural
active | passive
major | minor
single | married
single | double | triple
always | never | sometimes
often frequently | rarely seldom
all every everyone everybody | some someone somebody | none nobody
can could may might | must
raw uncooked | cooked
boil boiled | fry fried | bake baked | grill grilled | steam steamed | roast roasted | poach \
poached
freeze frozen | fresh
sweet | sour | bitter | salty
inhale | exhale
male man men boy masculine | female woman women girl feminine
mother mom mum | father dad
brother | sister
son | daughter
husband | wife
uncle | aunt
king | queen
he him his | she her hers
dog puppy puppies | cat kitten | rabbit | hamster | horse | bird parrot | fish | cow | pig | \
chicken
red | blue | green | yellow | black | white | brown | purple | pink | grey gray
beginner novice | expert advanced
introvert | extrovert
guilty | innocent
oldest | youngest
supply | demand
hardware | software
encoder | decoder
sine sin | cosine cos | tangent tan
mean | median | mode
area | perimeter circumference | volume
radius | diameter
sum | product | difference | quotient
mass | volume | density
latitude | longitude
prefix | suffix
synonym | antonym
uppercase capital | lowercase
gold | silver | bronze
"""

DATES = """
january jan | february feb | march_month | april apr | may_month | june jun | july jul | august \
aug | september sep sept | october oct | november nov | december dec
monday mon | tuesday tue tues | wednesday wed | thursday thu thur thurs | friday fri | saturday | \
sunday
this_time tonight | next_time | last_time
weekday | weekend
today tonight | tomorrow | yesterday
bc bce | ad
"""

# Units, one axis a kind of quantity: "in feet" and "in metres" ask for different numbers.
UNITS = """
km kilometer kilometre kilometers kilometres | mile miles mi | metre meter metres meters | cm \
centimeter centimetre | mm millimeter millimetre | inch inches | foot feet ft | yard yards yd | \
lightyear
kg kilo kilogram kilos | gram grams | lb lbs pound pounds | oz ounce ounces | ton tons tonne tonnes
litre liter litres liters | ml millilitre milliliter | gallon gallons | pint pints | cup cups | \
tablespoon tablespoons tbsp | teaspoon teaspoons tsp
celsius centigrade | fahrenheit | kelvin
seconds secs | minute minutes mins | hour hours hr hrs | days day | weeks week | months month | \
years year yr yrs
kb kilobyte | mb megabyte | gb gigabyte | tb terabyte | bits bit | bytes byte
dollar dollars usd | euro euros eur | gbp | yen jpy | rupee rupees inr | yuan rmb | franc francs
mph | kph kmh
percent | permille
binary | decimal | hexadecimal hex | octal
"""

# What is asked for; "what" and "which" may ask for any of it.
QUESTIONS = """
asks_who asks_whom asks_whose | asks_when | asks_where | asks_why | how_old | how_tall how_high | \
how_deep | how_heavy | how_fast | how_hot
how_old | how_often | how_far | how_tall how_high | how_deep | how_heavy | how_fast | how_long | \
how_hot
"""


def _axes(first: int, table: str) -> dict[str, tuple[tuple[int, int], ...]]:
    poles: dict[str, tuple[tuple[int, int], ...]] = {}
    for axis, line in enumerate(table.strip().splitlines(), first):
        for pole, line_words in enumerate(line.split("|")):
            for key in {stem(word) for word in line_words.split()}:
                poles[key] = (*poles.get(key, ()), (axis, pole))
    return poles


def _all_axes() -> tuple[dict[str, tuple[tuple[int, int], ...]], list[str], frozenset[int]]:
    """Return the poles of each stem, the kind of each axis, and which axes have just two poles."""
    poles: dict[str, tuple[tuple[int, int], ...]] = {}
    kinds: list[str] = []
    two: set[int] = set()
    tables = (("date", DATES), ("unit", UNITS), ("opposite", OPPOSITES), ("question", QUESTIONS))
    for kind, table in tables:
        for key, found in _axes(len(kinds), table).items():
            poles[key] = (*poles.get(key, ()), *found)
        for line in table.strip().splitlines():
            if line.count("|") == 1:
                two.add(len(kinds))
            kinds.append(kind)
    return poles, kinds, frozenset(two)


POLES, KINDS, TWO_POLES = _all_axes()
DATE_STEMS = frozenset(key for key, found in POLES.items() if KINDS[found[0][0]] == "date")
