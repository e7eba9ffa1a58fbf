"""Names of the fields that are filled into each result row, and of a trial's files."""

from __future__ import annotations

from typing import Final

# --- set by the user or filled in ---
DONE: Final = "done"
SHOULD_CHECKPOINT: Final = "should_checkpoint"
TRAINING_ITERATION: Final = "training_iteration"
TIME_THIS_ITER_S: Final = "time_this_iter_s"
TIME_TOTAL_S: Final = "time_total_s"
TIMESTEPS_THIS_ITER: Final = "timesteps_this_iter"
TIMESTEPS_TOTAL: Final = "timesteps_total"
EPISODES_THIS_ITER: Final = "episodes_this_iter"
EPISODES_TOTAL: Final = "episodes_total"
TIMESTAMP: Final = "timestamp"

# --- always filled in ---
TRIAL_ID: Final = "trial_id"
EXPERIMENT_TAG: Final = "experiment_tag"
DATE: Final = "date"
PID: Final = "pid"
HOSTNAME: Final = "hostname"
NODE_IP: Final = "node_ip"
CONFIG: Final = "config"
TIME_SINCE_RESTORE: Final = "time_since_restore"
TIMESTEPS_SINCE_RESTORE: Final = "timesteps_since_restore"
ITERATIONS_SINCE_RESTORE: Final = "iterations_since_restore"
CHECKPOINT_DIR_NAME: Final = "checkpoint_dir_name"

# --- metrics that displays know ---
DEFAULT_METRIC: Final = "_metric"
EPISODE_REWARD_MEAN: Final = "episode_reward_mean"
MEAN_LOSS: Final = "mean_loss"
MEAN_ACCURACY: Final = "mean_accuracy"

# --- markers inside a run ---
RESULT_DUPLICATE: Final = "__duplicate__"
TRIAL_INFO: Final = "__trial_info__"
STDOUT_FILE: Final = "__stdout_file__"
STDERR_FILE: Final = "__stderr_file__"

# --- files in a trial's directory ---
EXPR_PARAM_FILE: Final = "params.json"
EXPR_PARAM_PICKLE_FILE: Final = "params.pkl"
EXPR_PROGRESS_FILE: Final = "progress.csv"
EXPR_RESULT_FILE: Final = "result.json"
EXPR_ERROR_FILE: Final = "error.txt"
EXPR_ERROR_PICKLE_FILE: Final = "error.pkl"

#: Fields that describe a row's origin; they are no metrics.
DEBUG_METRICS: Final = (
    TRIAL_ID,
    "experiment_id",
    DATE,
    TIMESTAMP,
    PID,
    HOSTNAME,
    NODE_IP,
    CONFIG,
)

#: Every field that is filled in when the user does not report it.
AUTO_RESULT_KEYS: Final = (
    TRAINING_ITERATION,
    TIME_TOTAL_S,
    EPISODES_TOTAL,
    TIMESTEPS_TOTAL,
    NODE_IP,
    HOSTNAME,
    PID,
    TIME_THIS_ITER_S,
    TIMESTAMP,
    DATE,
    TIME_SINCE_RESTORE,
    TIMESTEPS_SINCE_RESTORE,
    ITERATIONS_SINCE_RESTORE,
    CONFIG,
    CHECKPOINT_DIR_NAME,
)
