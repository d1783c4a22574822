"""``speechrnn compare``: encoders of one budget, trained alike, in one table and on one page.

    plan.json               what is compared, and the size of every encoder; see ``plan``
    recipes/gru.toml        the recipe of an encoder
    cells/gru-0/            an encoder with a seed: its bundle and cell.json; see ``cells``
    files/gru-int8.tflite   an encoder's exported files, and gru.json about them; see ``exported``
    speeds.json             how long they take, all measured in turn
    comparison.json .md .html

What is done lies in the folder and is not done again.
"""
