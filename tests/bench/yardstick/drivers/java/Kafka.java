import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Drives Kafka by its Java client: java Kafka BOOTSTRAP [KEYSTORE PASSWORD]. Its consumers cannot filter. */
final class Kafka extends Driver {
    private static final int UNDER_WAY = 8_192;

    private final String[] args;
    private KafkaProducer<byte[], byte[]> producer;
    /** Gathers batches as large as the application's. */
    private KafkaProducer<byte[], byte[]> batching;
    private int groups;

    private Kafka(String[] args) {
        this.args = args;
    }

    public static void main(String[] args) throws Exception {
        new Kafka(args).serve();
    }

    private Properties properties() {
        Properties made = new Properties();
        made.put("bootstrap.servers", args[0]);
        if (args.length > 1) {
            made.put("security.protocol", "SSL");
            made.put("ssl.truststore.location", args[1]);
            made.put("ssl.truststore.password", args[2]);
        }
        made.put("reconnect.backoff.ms", "10");
        made.put("reconnect.backoff.max.ms", "50");
        return made;
    }

    private KafkaProducer<byte[], byte[]> start(int lingerMs, int batchBytes) {
        Properties with = properties();
        with.put("acks", "all");
        // As RocketMQ's and NATS's: numbered batches would wait for those before them.
        with.put("enable.idempotence", "false");
        with.put("linger.ms", Integer.toString(lingerMs));
        with.put("batch.size", Integer.toString(batchBytes));
        return new KafkaProducer<>(with, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaProducer<byte[], byte[]> producer() {
        if (producer == null) {
            // It batches what comes while a request is under way; waiting for more would only be in the latency.
            producer = start(0, 16_384);
        }
        return producer;
    }

    @Override
    void topic(String name, int queues) throws Exception {
        Properties with = properties();
        with.put("default.api.timeout.ms", "20000");
        with.put("request.timeout.ms", "10000");
        try (Admin admin = Admin.create(with)) {
            admin.createTopics(List.of(new NewTopic(name, queues, (short) 1))).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
        producer().partitionsFor(name);
    }

    @Override
    void topics(String prefix, int count, int queues) throws Exception {
        List<NewTopic> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            all.add(new NewTopic(prefix + i, queues, (short) 1));
        }
        Properties with = properties();
        with.put("default.api.timeout.ms", "120000");
        with.put("request.timeout.ms", "60000");
        try (Admin admin = Admin.create(with)) {
            admin.createTopics(all).all().get();
        }
        for (NewTopic topic : all) {
            producer().partitionsFor(topic.name());
        }
    }

    @Override
    void send(String topic, byte[] body, Sent sent) {
        producer().send(new ProducerRecord<>(topic, body), (placed, error) -> sent.done(error));
    }

    @Override
    void sendBatch(String topic, byte[] body, int count, Sent sent) {
        if (batching == null) {
            // It has no batch of an application's. Its default would leave when half of one is there.
            batching = start(5, 65_536);
        }
        AtomicInteger left = new AtomicInteger(count);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < count; i++) {
            batching.send(new ProducerRecord<>(topic, body), (placed, error) -> {
                if (error != null) {
                    failure.set(error);
                }
                if (left.decrementAndGet() == 0) {
                    sent.done(failure.get());
                }
            });
        }
    }

    @Override
    void sendAndWait(String topic, byte[] body) throws Exception {
        producer().send(new ProducerRecord<>(topic, body)).get();
    }

    @Override
    void fill(String topic, int size, long count) throws Exception {
        byte[] body = filled(size);
        Semaphore room = new Semaphore(UNDER_WAY);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (long i = 0; i < count; i++) {
            room.acquire();
            send(topic, body, error -> {
                if (error != null) {
                    failure.set(error);
                }
                room.release();
            });
        }
        // Once in a while the last messages were not sent for minutes without this.
        producer().flush();
        if (!room.tryAcquire(UNDER_WAY, PATIENCE_S, TimeUnit.SECONDS)) {
            throw new IllegalStateException("sends were not answered");
        }
        if (failure.get() != null) {
            throw new IllegalStateException(failure.get());
        }
    }

    @Override
    AutoCloseable consume(String topic, String filter, Consumer<byte[]> each, Runnable joined) {
        if (!filter.equals("all")) {
            throw new IllegalArgumentException("Kafka has no filter " + filter);
        }
        Properties with = properties();
        with.put("group.id", "g" + System.nanoTime() + "_" + groups++);
        with.put("auto.offset.reset", "earliest");
        AtomicBoolean over = new AtomicBoolean();
        Thread thread = new Thread(() -> {
            var bytes = new ByteArrayDeserializer();
            try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(with, bytes, bytes)) {
                consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                        joined.run();
                    }

                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    }
                });
                while (!over.get()) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        each.accept(record.value());
                    }
                }
            }
        });
        thread.start();
        return () -> {
            over.set(true);
            thread.join();
        };
    }
}
