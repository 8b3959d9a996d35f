"""Words that may stand for each other where nothing else changes, a line each.

"How do I fix a tap?" and "How do I repair a tap?" are one question, "How do I fix a tap?" and "How
do I fix a tyre?" are two. What is not in a table counts as different: an answer is then made twice.
The poles of `cacher.semantic.opposites` are such groups, too.
"""

from __future__ import annotations

from cacher.semantic.opposites import POLES
from cacher.semantic.words import stem

SYNONYMS = """
account profile
advantage benefit
allow permit
allowed permitted legal
amount quantity
answer reply respond response
apartment flat
app application
ask request
author writer
autumn fall
avoid prevent
baby infant
bad poor terrible
beautiful pretty
best top greatest good ideal
big large huge
biggest largest
bike bicycle
bin trash garbage rubbish
book novel
boss manager
buy purchase get order
call phone ring telephone
car automobile vehicle auto
carpet rug
cat kitten
centre center middle
change modify edit alter update
change switch swap replace
cheap inexpensive affordable
check verify test inspect confirm
cheque check
choose pick select
class course lesson
clean wash
clear empty clean
colleague coworker
college university
colour color
command instruction
common popular frequent typical
company business firm
computer pc laptop
configure setup set
connect pair link attach
connection internet
contact reach
cook prepare make
cooker stove oven
cookie biscuit
correct right proper
cost price
couch sofa
country nation
creator inventor founder
cure treat heal
current present
dangerous unsafe harmful
database db
deliver ship
delivery shipping
dictionary dict map
differ different difference
difference distinction
different distinct
dinner supper
directory dir
divide split separate
doctor physician
dog puppy
drink beverage
earn make
easiest simplest best quickest
easily simply
easy simple
email mail
employee worker
error bug problem issue
essay paper
exam test
example sample
exercise workout training
exit quit leave close
expensive costly pricey
explain describe define clarify
explanation description definition meaning
famous popular known
fast quick quickly rapid rapidly
fastest quickest
father dad
favourite favorite
fever temperature
file document
find locate look search get discover
finish complete end
fix repair mend solve resolve troubleshoot
flu influenza
fly flight
folder directory
fridge refrigerator
friend buddy
function method
funny humorous
garden yard
get obtain receive acquire have
goal aim objective
good great decent fine nice okay fair reasonable
grade mark
grey gray
happen occur
happy glad
hard difficult tough
hate dislike
healthy nutritious
help assist aid support
homework assignment
house home
hurt ache pain
husband spouse
illegal unlawful
illness disease sickness
image container
important significant
improve enhance better boost
increase raise boost
install setup set
integer int
internet web
invoice bill receipt
jewellery jewelry
job position role work
join combine merge connect
journey trip
keep store save
kid child
kids children
kilometre kilometer
kind type sort
know tell
language tongue
laptop notebook
law rule
lawyer attorney
lecture class
legal lawful
licence license
like love enjoy
list array
litre liter
live reside
loan credit
luggage baggage
make create build produce construct generate write
man guy
maths math mathematics
may can
meal dish food
medicine medication drug
message text
method way technique approach
metre meter
mold mould
money cash
mother mum mom
movie film
need require
needed required necessary
neighbour neighbor
normal usual typical average
now currently today
often frequently
organise organize
origin source
package parcel order
painful sore
parameter argument
password passcode
people person
person individual
phone mobile cellphone smartphone
picture photo photograph image pic
picture screenshot
piece part
plane airplane aeroplane aircraft
population inhabitants
problem issue trouble
program software application
programme program
purpose goal
pyjamas pajamas
reason cause
recommend suggest advise
recommendation suggestion tip idea
recommended suggested
reduce lower decrease cut
refund reimbursement
remove delete erase eliminate clear
replace substitute
repository repo
return refund
rubbish trash garbage waste
rule regulation
run execute
run jog
sad unhappy
salary pay wage income
say speak tell talk pronounce
scared afraid
screen display monitor
see view look watch check
send submit mail
shipping postage
shop store
shot vaccine jab vaccination
should must
show display list print
sick ill unwell
sign log
signin login
slow slowly
slow sluggish
small little tiny
song track
speed velocity
stain spot mark
start begin launch
step instruction
stomach belly tummy
stop quit halt end cease
strange weird odd
string str
string text
study learn
sweet candy
symptom sign
tallest highest
tap faucet
teach train
think believe
tip trick advice hint idea
tired exhausted sleepy
total sum
town city
travel go get fly drive
treatment cure remedy therapy
trip vacation holiday
tv television
tyre tire
understand comprehend grasp
use utilize utilise apply employ
username login
usually normally generally typically
variable var
visit see
want need
webpage page
website site webpage
weight mass
wife spouse
wifi internet
work function operate
wrong incorrect
"""


def _groups() -> dict[str, frozenset[int]]:
    groups: dict[str, set[int]] = {}
    for number, line in enumerate(SYNONYMS.strip().splitlines()):
        for word in line.split():
            groups.setdefault(stem(word), set()).add(number)
    return {key: frozenset(numbers) for key, numbers in groups.items()}


_GROUPS = _groups()
_NONE: frozenset[int] = frozenset()


def alike(a: str, b: str) -> bool:
    """Whether two stems may stand for each other: synonyms, "safe" and "safely", or a slip.

    >>> alike("fix", "repair"), alike("recieve", "receive"), alike("tap", "tyr")
    (True, True, False)
    """
    if not _GROUPS.get(a, _NONE).isdisjoint(_GROUPS.get(b, _NONE)):
        return True
    if not set(POLES.get(a, ())).isdisjoint(POLES.get(b, ())):
        return True
    return a + "ly" == b or b + "ly" == a or a + "ely" == b or b + "ely" == a or _slip(a, b)


def _slip(a: str, b: str) -> bool:
    """Whether one letter too many, too few, wrong or swapped with its neighbour makes b of a."""
    if len(a) > len(b):
        a, b = b, a
    if len(a) < 5 or len(b) - len(a) > 1 or a[0] != b[0]:
        return False
    start = next((i for i, letter in enumerate(a) if letter != b[i]), len(a))
    if len(a) < len(b):
        return a[start:] == b[start + 1 :]
    rest, other = a[start:], b[start:]
    return rest[1:] == other[1:] or (rest[1::-1] == other[:2] and rest[2:] == other[2:])
