"""Many recordings -> one record each, in input order, whatever happens to single ones.

inputs -> tasks -> workers (here, processes, or a Ray cluster) -> records -> outputs
             ledger: what is done already
"""

from speechrnn.transcribe.library import transcribe_files as transcribe_files
