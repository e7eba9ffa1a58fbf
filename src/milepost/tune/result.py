"""Names of result fields and of a trial's files, under Ray's module name."""

from __future__ import annotations

from milepost.api.fields import (
    AUTO_RESULT_KEYS,
    DEBUG_METRICS,
    DEFAULT_METRIC,
    DONE,
    EPISODE_REWARD_MEAN,
    EPISODES_THIS_ITER,
    EPISODES_TOTAL,
    EXPERIMENT_TAG,
    EXPR_ERROR_FILE,
    EXPR_ERROR_PICKLE_FILE,
    EXPR_PARAM_FILE,
    EXPR_PARAM_PICKLE_FILE,
    EXPR_PROGRESS_FILE,
    EXPR_RESULT_FILE,
    HOSTNAME,
    MEAN_ACCURACY,
    MEAN_LOSS,
    NODE_IP,
    PID,
    RESULT_DUPLICATE,
    SHOULD_CHECKPOINT,
    STDERR_FILE,
    STDOUT_FILE,
    TIME_THIS_ITER_S,
    TIME_TOTAL_S,
    TIMESTAMP,
    TIMESTEPS_THIS_ITER,
    TIMESTEPS_TOTAL,
    TRAINING_ITERATION,
    TRIAL_ID,
    TRIAL_INFO,
)

#: Prefix of configuration values among flattened results: ``config/lr``.
CONFIG_PREFIX = "config"
#: Name of an experiment that was not given one, for :func:`milepost.tune.run_experiments`.
DEFAULT_EXPERIMENT_NAME = "default"
#: Result fields that displays show first.
DEFAULT_RESULT_KEYS = (TRAINING_ITERATION, TIME_TOTAL_S, MEAN_ACCURACY, MEAN_LOSS)

__all__ = [
    "AUTO_RESULT_KEYS",
    "CONFIG_PREFIX",
    "DEBUG_METRICS",
    "DEFAULT_EXPERIMENT_NAME",
    "DEFAULT_METRIC",
    "DEFAULT_RESULT_KEYS",
    "DONE",
    "EPISODES_THIS_ITER",
    "EPISODES_TOTAL",
    "EPISODE_REWARD_MEAN",
    "EXPERIMENT_TAG",
    "EXPR_ERROR_FILE",
    "EXPR_ERROR_PICKLE_FILE",
    "EXPR_PARAM_FILE",
    "EXPR_PARAM_PICKLE_FILE",
    "EXPR_PROGRESS_FILE",
    "EXPR_RESULT_FILE",
    "HOSTNAME",
    "MEAN_ACCURACY",
    "MEAN_LOSS",
    "NODE_IP",
    "PID",
    "RESULT_DUPLICATE",
    "SHOULD_CHECKPOINT",
    "STDERR_FILE",
    "STDOUT_FILE",
    "TIMESTAMP",
    "TIMESTEPS_THIS_ITER",
    "TIMESTEPS_TOTAL",
    "TIME_THIS_ITER_S",
    "TIME_TOTAL_S",
    "TRAINING_ITERATION",
    "TRIAL_ID",
    "TRIAL_INFO",
]
