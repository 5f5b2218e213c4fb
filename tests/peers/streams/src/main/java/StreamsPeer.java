import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/** What the connector does with the marker-all Aligner, on Kafka Streams with exactly_once_v2. */
public final class StreamsPeer {
  static final ObjectMapper JSON = new ObjectMapper();
  static final String REVISION = "builtin-1";
  static final String NO_TEMPLATE =
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Answer(
      String event_id, String question, String answer, String upstream_model, Long created_at,
      String conversation_id, String user_id, String metadata_json) {}

  record Correction(
      String correction_id, String event_id, String question, String answer, String correction,
      String disposition, String reason, String message, double similarity,
      Double unchanged_logprob, Double mean_logprob, String upstream_model, String conversation_id,
      String user_id, String metadata_json, Long created_at, String aligner_name,
      String aligner_revision, String template_hash, int max_new_tokens,
      double temperature, Double top_p, Long seed, String source_topic, int source_partition,
      long source_offset, int prompt_tokens, int correction_tokens, long queue_ms,
      long inference_ms, long corrected_at, String proposal) {}

  record Pair(
      String correction_id, String event_id, String prompt, String chosen, String rejected,
      double similarity, Double unchanged_logprob, Double mean_logprob, String upstream_model,
      String aligner_name, String aligner_revision, String template_hash, String source_topic,
      int source_partition, long source_offset, long corrected_at, String conversation_id,
      String user_id, Long created_at) {}

  /** One record in, two out, each to its sink. */
  static final class Marker implements Processor<byte[], byte[], byte[], byte[]> {
    private final ObjectReader answers = JSON.readerFor(Answer.class);
    private final ObjectWriter corrections = JSON.writerFor(Correction.class);
    private final ObjectWriter pairs = JSON.writerFor(Pair.class);
    private ProcessorContext<byte[], byte[]> context;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        Answer event = answers.readValue(record.value());
        var from = context.recordMetadata().orElseThrow();
        String corrected = event.answer() + " [marked]";
        String id = correctionId(from.topic(), from.partition(), from.offset());
        double similarity = similarity(event.answer());
        long now = System.currentTimeMillis();
        byte[] key = event.event_id().getBytes(StandardCharsets.UTF_8);
        byte[] correction = corrections.writeValueAsBytes(new Correction(
            id, event.event_id(), event.question(), event.answer(), corrected, "corrected", "extended",
            null, similarity, null, null, event.upstream_model(), event.conversation_id(),
            event.user_id(), event.metadata_json(), event.created_at(), "marker-all", REVISION,
            NO_TEMPLATE, 1024, 0.0, null, null, from.topic(), from.partition(),
            from.offset(), 0, 0, 0, 0, now, null));
        byte[] pair = pairs.writeValueAsBytes(new Pair(
            id, event.event_id(), event.question(), corrected, event.answer(), similarity,
            null, null, event.upstream_model(), "marker-all", REVISION, NO_TEMPLATE, from.topic(),
            from.partition(), from.offset(), now, event.conversation_id(), event.user_id(),
            event.created_at()));
        context.forward(new Record<>(key, correction, record.timestamp()), "corrections");
        context.forward(new Record<>(key, pair, record.timestamp()), "pairs");
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }
  }

  /** The first 128 bits, in hex, of the hash of the record's position and the revision. */
  static String correctionId(String topic, int partition, long offset) throws Exception {
    String lines = "kafka\n" + topic + "\n" + partition + "\n" + offset + "\n" + REVISION;
    byte[] digest = MessageDigest.getInstance("SHA-256").digest(lines.getBytes(StandardCharsets.UTF_8));
    return HexFormat.of().formatHex(digest, 0, 16);
  }

  /** Share of words and white spaces in common: the mark adds one of each. */
  static double similarity(String answer) {
    int words = 0;
    boolean before = false;
    for (int i = 0; i < answer.length(); i++) {
      boolean space = Character.isWhitespace(answer.charAt(i));
      if (i == 0 || space != before) {
        words++;
      }
      before = space;
    }
    return (2.0 * words) / (2 * words + 2);
  }

  public static void main(String[] arguments) {
    Map<String, String> given = new HashMap<>();
    for (int i = 0; i + 1 < arguments.length; i += 2) {
      given.put(arguments[i].substring(2), arguments[i + 1]);
    }
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, given.get("group"));
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given.get("bootstrap-servers"));
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, given.get("commit-interval-ms"));
    settings.put(StreamsConfig.STATE_DIR_CONFIG, Path.of("state").toAbsolutePath().toString());
    settings.put(
        StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(
        StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG),
        given.get("compression"));

    var bytes = Serdes.ByteArray();
    Topology topology = new Topology();
    topology.addSource("answers", bytes.deserializer(), bytes.deserializer(), given.get("answers"));
    topology.addProcessor("marker", Marker::new, "answers");
    topology.addSink("corrections", given.get("corrections"), bytes.serializer(), bytes.serializer(), "marker");
    topology.addSink("pairs", given.get("pairs"), bytes.serializer(), bytes.serializer(), "marker");

    KafkaStreams streams = new KafkaStreams(topology, settings);
    Runtime.getRuntime().addShutdownHook(
        new Thread(() -> streams.close(Duration.ofSeconds(20))));
    streams.start();
  }
}
