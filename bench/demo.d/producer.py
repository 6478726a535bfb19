"""producer.py BROKER: publishes lines of standard input, each a JSON pair [TOPIC, VALUE], as soon as they come.

kcat would do, but it reads its standard input in blocks: a message would wait for those after it.
"""
import json
import sys

from confluent_kafka import Producer


def delivered(error, _message):
    if error is not None:
        print(f"producer: {error}", file=sys.stderr)


def main():
    producer = Producer({"bootstrap.servers": sys.argv[1], "acks": 1, "linger.ms": 0, "message.max.bytes": 1054644})
    for line in sys.stdin:
        topic, value = json.loads(line)
        producer.produce(topic, value.encode(), on_delivery=delivered)
        producer.poll(0)
    if producer.flush(5) > 0:
        sys.exit("producer: some messages were not delivered")


try:
    main()
except KeyboardInterrupt:
    pass  # the demonstration was interrupted, and says so itself
