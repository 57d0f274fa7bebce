import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Drives RocketMQ by the Java client: java RocketMq NAMESRV. */
final class RocketMq extends Driver {
    /** Messages of a batch, and threads that send them, while a backlog is made. */
    private static final int BATCH = 32;
    private static final int THREADS = 4;
    private static final int TIMEOUT_MS = 30_000;

    private final String namesrv;
    private DefaultMQProducer producer;
    private int groups;

    private RocketMq(String namesrv) {
        this.namesrv = namesrv;
    }

    public static void main(String[] args) throws Exception {
        // A consumer that asks for its queues before the broker knows it would ask again after 20 s.
        System.setProperty("rocketmq.client.rebalance.waitInterval", "1000");
        new RocketMq(args[0]).serve();
    }

    private DefaultMQProducer producer() throws Exception {
        if (producer == null) {
            DefaultMQProducer made = new DefaultMQProducer("yardstick");
            made.setNamesrvAddr(namesrv);
            made.setInstanceName("producer" + System.nanoTime());
            made.setSendMsgTimeout(TIMEOUT_MS);
            made.setRetryTimesWhenSendFailed(0);
            made.setRetryTimesWhenSendAsyncFailed(0);
            made.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
            made.start();
            producer = made;
        }
        return producer;
    }

    @Override
    void topic(String name, int queues) throws Exception {
        producer().createTopic("TBW102", name, queues, null);
        long began = System.nanoTime();
        while (true) {
            try {
                if (producer().fetchPublishMessageQueues(name).size() == queues) {
                    return;
                }
            } catch (Exception error) {
                if (System.nanoTime() - began > 30_000_000_000L) {
                    throw error;
                }
            }
            Thread.sleep(10);
        }
    }

    private static void check(SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException(result.getSendStatus().name());
        }
    }

    private static SendCallback told(Sent sent) {
        return new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                boolean well = result.getSendStatus() == SendStatus.SEND_OK;
                sent.done(well ? null : new IllegalStateException(result.getSendStatus().name()));
            }

            @Override
            public void onException(Throwable error) {
                sent.done(error);
            }
        };
    }

    @Override
    void send(String topic, byte[] body, Sent sent) throws Exception {
        producer().send(new Message(topic, body), told(sent), TIMEOUT_MS);
    }

    @Override
    void sendBatch(String topic, byte[] body, int count, Sent sent) throws Exception {
        List<Message> batch = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            batch.add(new Message(topic, body));
        }
        producer().send(batch, told(sent), TIMEOUT_MS);
    }

    @Override
    void sendAndWait(String topic, byte[] body) throws Exception {
        check(producer().send(new Message(topic, body)));
    }

    @Override
    void fill(String topic, int size, long count) throws Exception {
        byte[] body = filled(size);
        AtomicReference<Exception> failure = new AtomicReference<>();
        List<Thread> threads = new ArrayList<>();
        for (int t = 0; t < THREADS; t++) {
            long from = count * t / THREADS;
            long to = count * (t + 1) / THREADS;
            Thread thread = new Thread(() -> {
                try {
                    for (long at = from; at < to; at += BATCH) {
                        List<Message> batch = new ArrayList<>(BATCH);
                        for (long i = at; i < Math.min(at + BATCH, to); i++) {
                            Message message = new Message(topic, "t" + i % VARIETY, body);
                            message.putUserProperty("a", Long.toString(i % VARIETY));
                            batch.add(message);
                        }
                        check(producer().send(batch));
                    }
                } catch (Exception error) {
                    failure.set(error);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    @Override
    AutoCloseable consume(String topic, String filter, Consumer<byte[]> each, Runnable joined) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("g" + System.nanoTime() + "_" + groups++);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName("consumer" + groups);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeMessageBatchMaxSize(BATCH);
        switch (filter) {
            case "all":
                consumer.subscribe(topic, "*");
                break;
            case "tag":
                consumer.subscribe(topic, "t7");
                break;
            case "sql":
                consumer.subscribe(topic, MessageSelector.bySql("a = 7"));
                break;
            case "sql-half":
                consumer.subscribe(topic, MessageSelector.bySql("a < 50"));
                break;
            default:
                throw new IllegalArgumentException("unknown filter " + filter);
        }
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                each.accept(message.getBody());
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        var queues = consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable();
        int wanted = consumer.fetchSubscribeMessageQueues(topic).size();
        long began = System.nanoTime();
        while (queues.keySet().stream().filter(it -> it.getTopic().equals(topic)).count() < wanted) {
            if (System.nanoTime() - began > PATIENCE_S * 1_000_000_000L) {
                throw new IllegalStateException("the consumer was given no queues");
            }
            Thread.sleep(1);
        }
        // It pulls from a queue as soon as it has it.
        joined.run();
        return consumer::shutdown;
    }
}
