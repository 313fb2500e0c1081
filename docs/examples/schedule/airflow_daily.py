"""An Airflow DAG: the watch by the command line, then one notebook by papermill with opslib's own parameters.

OPSLIB_COMPANY is the folder with the playbook, the notebooks and a .venv that has opslib. The notebook runs in that
.venv too, once `.venv/bin/python -m ipykernel install --user --name opslib` has made its kernel known to the worker.
"""

import datetime as dt
import os

from airflow.providers.papermill.operators.papermill import PapermillOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

COMPANY = os.environ["OPSLIB_COMPANY"]
YESTERDAY = "{{ macros.ds_add(ds, -1) }}"

with DAG(
    "opslib_daily",
    schedule="30 6 * * *",
    start_date=dt.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
) as dag:
    watch = BashOperator(
        task_id="watch",
        cwd=COMPANY,
        bash_command=f".venv/bin/opslib watch --as-of {YESTERDAY} --keep 400d --wait 3600",
    )
    churn = PapermillOperator(
        task_id="churn",
        input_nb=f"{COMPANY}/notebooks/30_churn_investigation.ipynb",
        output_nb=f"{COMPANY}/reports/30_churn_investigation-{YESTERDAY}.ipynb",
        kernel_name="opslib",
        parameters={"playbook": f"{COMPANY}/playbook.toml", "as_of": YESTERDAY, "budget_amount": 5000.0},
    )
    watch >> churn
