"""Confluent's own Avro serializer, as the independent client of the registry tests.

    avro.py encode URL SUBJECT SCHEMA_FILE   JSON lines on stdin -> base64 of framed Avro, a line each
    avro.py decode URL                       base64 of framed Avro on stdin -> JSON lines

URL is a schema registry. Encoding registers the schema under SUBJECT, as producers do.
"""

import base64
import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext


def encode(client, subject, schema_file):
    with open(schema_file, encoding="utf-8") as file:
        schema = file.read()
    fields = [field["name"] for field in json.loads(schema)["fields"]]
    conf = {"subject.name.strategy": lambda context, record: subject}
    serialize = AvroSerializer(client, schema, conf=conf)
    context = SerializationContext("unused", MessageField.VALUE)
    for line in sys.stdin:
        event = json.loads(line)
        value = serialize({field: event.get(field) for field in fields}, context)
        print(base64.b64encode(value).decode())


def decode(client):
    deserialize = AvroDeserializer(client)
    context = SerializationContext("unused", MessageField.VALUE)
    for line in sys.stdin:
        record = deserialize(base64.b64decode(line), context)
        # timestamp-millis comes back as a datetime.
        print(json.dumps(record, default=lambda moment: int(moment.timestamp() * 1000)))


def main():
    mode, url = sys.argv[1:3]
    client = SchemaRegistryClient({"url": url})
    if mode == "encode":
        encode(client, *sys.argv[3:5])
    else:
        decode(client)


if __name__ == "__main__":
    main()
