from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from banners.models import Banner
from boards.models import Board, Post
from shop.models import EmoticonSet, Wallet

COINS = 300

MEMBERS = ["wick", "oilcan", "brass_door", "moth", "harbour_mouse", "seventh_keeper"]

BOARDS = [
    ("episodes", "Episodes", "One thread for each evening the lamp was lit."),
    ("theories", "Theories", "Who is the seventh keeper? Spoilers welcome, evidence preferred."),
    ("drawings", "Drawings", "Lighthouses, moths, and the occasional keeper."),
    ("recordings", "Recordings", "Old tapes, clean tapes, tapes with rain on them."),
    ("meetings", "Meetings", "Listening together, with tea."),
    ("lost-and-found", "Lost and found", "Everything else washes up here."),
]

OPENINGS = [
    "Has anyone else noticed",
    "I went back and listened again:",
    "A small thing about",
    "My grandmother remembers",
    "In praise of",
    "Please explain",
    "I drew",
    "The best minute of the whole series is",
]
SUBJECTS = [
    "the second foghorn",
    "the door in episode nine",
    "the moth that talks",
    "the missing log book",
    "the keeper's whistle",
    "the storm without wind",
    "the letter nobody opens",
    "the long silence before the bell",
]
SENTENCES = [
    "It is only there in the first broadcast.",
    "You hear it best with the lights off.",
    "I think it was a mistake at first, and they liked it and kept it.",
    "Compare it with the opening: the same three notes, the other way round.",
    "My tape has rain on it here, so I may be wrong.",
    "Nobody in the series ever mentions it again.",
    "The actor said in an interview that the script just read: wait.",
    "If that is so, then the lamp was out the whole time.",
]

EMOTICON_SETS = [
    ("first-light", "First Light", 30, r"(^_^) \o/ :-) ;-)"),
    ("harbour-cats", "Harbour Cats", 60, "(=^.^=) >^..^< =^_^= (=o.o=)"),
    ("seven-keepers", "Seven Keepers", 120, "[o_o] [-_-] [^_^] [>_<] [@_@] [T_T] [._.]"),
    ("storm-warning", "Storm Warning", 200, "(>_<) ~~~ (x_x) /!\\"),
    ("moths", "Moths", 250, "}{ }i{ }:{ }|{ (o}{o)"),
]

BANNERS = [
    ("Listening night on Friday", "Episode nine, all together, at eight. Bring tea.", "sea"),
    ("Moths are here", "The new emoticon set is in the shop.", "plum"),
]


class Command(BaseCommand):
    help = "Fill an empty site with demo data: boards, posts, banners, emoticon sets, and the user demo."

    def handle(self, *args: Any, **options: Any) -> None:
        if Board.objects.exists():
            self.stdout.write("There are boards already: nothing done.")
            return
        with transaction.atomic():
            seed()


def seed() -> None:
    # Always the same site.
    chance = random.Random(9)
    now = timezone.now()
    users = get_user_model().objects
    demo = users.create_superuser("demo", password="demo")
    Wallet.objects.create(user=demo, coins=COINS)
    # Without a password: nobody logs in as one of these.
    members = [users.create_user(name) for name in MEMBERS]
    for slug, name, description in BOARDS:
        board = Board.objects.create(slug=slug, name=name, description=description)
        Post.objects.bulk_create(
            Post(
                board=board,
                author=chance.choice(members),
                title=f"{chance.choice(OPENINGS)} {chance.choice(SUBJECTS)}",
                body=" ".join(chance.sample(SENTENCES, k=chance.randint(2, 5))),
                created=now - timedelta(minutes=chance.randint(5, 60 * 24 * 30)),
            )
            for _ in range(chance.randint(12, 30))
        )
    EmoticonSet.objects.bulk_create(
        EmoticonSet(slug=slug, name=name, price=price, emoticons=emoticons)
        for slug, name, price, emoticons in EMOTICON_SETS
    )
    Banner.objects.bulk_create(
        Banner(title=title, text=text, colour=colour, author=members[0]) for title, text, colour in BANNERS
    )
    if apps.is_installed("api"):
        from api.clients import register_app

        register_app()
