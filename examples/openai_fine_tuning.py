"""Code written for OpenAI's fine-tuning, run at home: nothing in it knows of understudy.

    understudy new home
    understudy serve -p home --base gpt-3.5-turbo=tiny      # or =hf:org/name

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=TOKEN \
        python examples/openai_fine_tuning.py training.jsonl "What is it about?"

``serve`` prints address and token. The calls are those of gpt-llm-trainer's notebook, as today's
SDK has them: upload, create a job, look at its events until it ends, ask the model it made.
"""

import json
import os
import sys
import time

from openai import OpenAI


def main(path: str, question: str) -> str:
    """Fine-tune on a file of conversations, then ask; the answer."""
    client = OpenAI()
    with open(path, "rb") as file:  # noqa: PTH123
        file_id = client.files.create(file=file, purpose="fine-tune").id

    job = client.fine_tuning.jobs.create(training_file=file_id, model="gpt-3.5-turbo")
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(float(os.environ.get("POLL_SECONDS", "5")))
        events = client.fine_tuning.jobs.list_events(job.id, limit=1)
        print(events.data[0].message)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded":
        raise SystemExit(job.error.message if job.error else job.status)

    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        system_message = json.loads(file.readline())["messages"][0]["content"]
    response = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=[
            {"role": "system", "content": system_message},
            {"role": "user", "content": question},
        ],
    )
    return response.choices[0].message.content or ""


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2]))
