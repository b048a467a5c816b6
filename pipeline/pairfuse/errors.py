"""Errors that a user can mend; everything else is a bug and keeps its traceback.

PairfuseError
├── DataError         label files, tables, texts, images
├── EncoderError      weights not found, wrong model, device
├── StoreError        feature store: full, locked, incomplete, of a newer format
│   └── DamageError   a part of it is proven damaged: checksum or schema
├── ConfigError       configuration files and flags
└── CheckpointError   trained models: missing, incomplete, not made for this data set

DataError and ConfigError are ValueErrors too: scikit-learn asks for one where a call was given what
it cannot use.
"""


class PairfuseError(Exception):
    """What was wrong, what was found, what to do: one line, lower case, no full stop."""


class DataError(PairfuseError, ValueError):
    """The data set cannot be used as it is."""


class EncoderError(PairfuseError):
    """An encoder cannot be built or run."""


class StoreError(PairfuseError):
    """A feature store cannot be read or written."""


class DamageError(StoreError):
    """A part is proven damaged; what only could not be read just now is an `OSError`."""


class ConfigError(PairfuseError, ValueError):
    """A configuration file or a flag is wrong."""


class CheckpointError(PairfuseError):
    """A trained model cannot be loaded or does not fit the data."""


def shown(value: object) -> str:
    """A value as a message shows it: cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}..."
