import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;

/**
 * Drives a broker for the yardstick: a command a line on stdin, an answer in JSON a line on stdout. The commands
 * and what they mean are in tests/bench/yardstick/src/protocol.rs. What differs between brokers is abstract here.
 */
abstract class Driver {
    /** Longest a command waits for something that should happen. */
    static final long PATIENCE_S = 120;
    /** Tags, and values of the property, that the messages of a backlog have in turn. */
    static final int VARIETY = 100;
    /** At most so many times are kept of one measurement. */
    private static final int TIMES = 16_000_000;

    /** Told once how a send ended: null = well. */
    interface Sent {
        void done(Throwable error);
    }

    /** Connects if need be; the topic is there and can be written when this returns. */
    abstract void topic(String name, int queues) throws Exception;

    /** Topics whose names are this and a number. */
    void topics(String prefix, int count, int queues) throws Exception {
        for (int i = 0; i < count; i++) {
            topic(prefix + i, queues);
        }
    }

    abstract void send(String topic, byte[] body, Sent sent) throws Exception;

    /** A batch that the application makes of so many messages; told once, when all of them are acknowledged. */
    abstract void sendBatch(String topic, byte[] body, int count, Sent sent) throws Exception;

    /** Sends and waits, in the way the client offers for that. */
    abstract void sendAndWait(String topic, byte[] body) throws Exception;

    /** Makes a backlog, whichever way is fastest: message i has the tag t(i % 100) and the property a = i % 100. */
    abstract void fill(String topic, int size, long count) throws Exception;

    /**
     * A new group that begins at the first message; it commits as its client does by default. It has joined and
     * says so before it reads.
     */
    abstract AutoCloseable consume(String topic, String filter, Consumer<byte[]> each, Runnable joined)
            throws Exception;

    private static final class Times {
        private long[] all = new long[1 << 16];
        private int count;

        synchronized void add(long nanos) {
            if (count == all.length && count < TIMES) {
                all = Arrays.copyOf(all, 2 * count);
            }
            if (count < all.length) {
                all[count++] = nanos;
            }
        }

        synchronized String latency(String name) {
            if (count == 0) {
                return "";
            }
            Arrays.sort(all, 0, count);
            return String.format(",\"%s\":{\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f}",
                    name, at(0.5), at(0.99), at(0.999), at(1));
        }

        private double at(double quantile) {
            return all[Math.min((int) (quantile * count), count - 1)] / 1e3;
        }
    }

    private static String answer(long count, long failed, double seconds, String more) {
        return String.format("{\"count\":%d,\"failed\":%d,\"seconds\":%.6f%s}", count, failed, seconds, more);
    }

    static byte[] filled(int size) {
        byte[] body = new byte[size];
        new Random(1).nextBytes(body);
        return body;
    }

    private static double since(long nanos) {
        return (System.nanoTime() - nanos) / 1e9;
    }

    /** The first acknowledged message of a broker that may not be there yet. */
    private String first(String topic, int queues) throws Exception {
        long began = System.nanoTime();
        while (true) {
            try {
                topic(topic, queues);
                sendAndWait(topic, filled(1024));
                return answer(1, 0, since(began), "");
            } catch (Exception error) {
                if (since(began) > PATIENCE_S) {
                    throw error;
                }
                Thread.sleep(5);
            }
        }
    }

    /**
     * So many sends under way to these topics in turn, each acknowledged one replaced, until the time is over; with
     * a batch of more than 0, so many batches of that many messages.
     */
    private String produce(String[] topics, int batch, int inFlight, int size, double seconds) throws Exception {
        byte[] body = filled(size);
        Times times = new Times();
        AtomicLong failed = new AtomicLong();
        long began = System.nanoTime();
        long over = began + (long) (seconds * 1e9);
        long sent = 0;
        if (inFlight == 1 && batch == 0) {
            for (; System.nanoTime() < over; sent++) {
                long asked = System.nanoTime();
                sendAndWait(topics[(int) (sent % topics.length)], body);
                times.add(System.nanoTime() - asked);
            }
        } else {
            Semaphore room = new Semaphore(inFlight);
            for (; System.nanoTime() < over; sent++) {
                room.acquire();
                long asked = System.nanoTime();
                String topic = topics[(int) (sent % topics.length)];
                Sent told = error -> {
                    if (error == null) {
                        times.add(System.nanoTime() - asked);
                    } else if (failed.incrementAndGet() == 1) {
                        System.err.println("a send failed: " + error);
                    }
                    room.release();
                };
                if (batch == 0) {
                    send(topic, body, told);
                } else {
                    sendBatch(topic, body, batch, told);
                }
            }
            if (!room.tryAcquire(inFlight, PATIENCE_S, TimeUnit.SECONDS)) {
                throw new IllegalStateException("sends were not answered");
            }
        }
        long each = Math.max(batch, 1);
        return answer(each * (sent - failed.get()), each * failed.get(), since(began), times.latency("ack"));
    }

    /** New groups of one consumer each, which read side by side until so many messages came on the average. */
    private String drain(String topic, String filter, long expect, int groups) throws Exception {
        AtomicLong count = new AtomicLong();
        AtomicLong began = new AtomicLong();
        AtomicInteger joined = new AtomicInteger();
        CountDownLatch all = new CountDownLatch(1);
        long total = expect * groups;
        List<AutoCloseable> consumers = new ArrayList<>();
        for (int i = 0; i < groups; i++) {
            consumers.add(consume(topic, filter, body -> {
                if (count.incrementAndGet() == total) {
                    all.countDown();
                }
            }, () -> {
                // A group that has joined reads at once, so it is measured from the first of them on.
                if (joined.getAndIncrement() == 0) {
                    began.set(System.nanoTime());
                    say("{\"joined\":true}");
                }
            }));
        }
        boolean came = all.await(PATIENCE_S, TimeUnit.SECONDS);
        double seconds = since(began.get());
        for (AutoCloseable consumer : consumers) {
            consumer.close();
        }
        if (!came) {
            throw new IllegalStateException(count + " of " + total + " messages came within " + PATIENCE_S + " s");
        }
        return answer(total, 0, seconds, "");
    }

    /** Open loop: a message is stamped with when it was due, so a stall is in the time of all it delayed. */
    private String endToEnd(String topic, double rate, int size, double seconds) throws Exception {
        topic(topic, 4);
        long origin = System.nanoTime();
        Times acks = new Times();
        Times receipts = new Times();
        AtomicInteger probes = new AtomicInteger();
        AtomicLong received = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        AutoCloseable consumer = consume(topic, "all", body -> {
            long due = ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN).getLong();
            if (due == 0) {
                probes.incrementAndGet();
            } else {
                receipts.add(System.nanoTime() - origin - due);
                received.incrementAndGet();
            }
        }, () -> { });
        byte[] blank = filled(Math.max(size, 8));
        Arrays.fill(blank, 0, 8, (byte) 0);
        for (int i = 0; i < 8; i++) {
            sendAndWait(topic, blank);
            while (probes.get() <= i) {
                if (since(origin) > PATIENCE_S) {
                    throw new IllegalStateException("nothing is received");
                }
                Thread.sleep(1);
            }
        }
        long total = (long) (rate * seconds);
        Semaphore answered = new Semaphore(0);
        long start = System.nanoTime();
        for (long sent = 0; sent < total; sent++) {
            long due = start + (long) (sent / rate * 1e9);
            for (long left = due - System.nanoTime(); left > 0; left = due - System.nanoTime()) {
                LockSupport.parkNanos(left);
            }
            byte[] body = blank.clone();
            ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN).putLong(due - origin);
            send(topic, body, error -> {
                if (error == null) {
                    acks.add(System.nanoTime() - due);
                } else if (failed.incrementAndGet() == 1) {
                    System.err.println("a send failed: " + error);
                }
                answered.release();
            });
        }
        if (!answered.tryAcquire((int) total, PATIENCE_S, TimeUnit.SECONDS)) {
            throw new IllegalStateException("sends were not answered");
        }
        double lasted = since(start);
        long waited = System.nanoTime();
        while (received.get() + failed.get() < total && since(waited) < 10) {
            Thread.sleep(1);
        }
        long got = received.get();
        consumer.close();
        return answer(got, total - got, lasted, acks.latency("ack") + receipts.latency("e2e"));
    }

    private String obey(String verb, Map<String, String> args) throws Exception {
        String topic = args.get("topic");
        int size = Integer.parseInt(args.getOrDefault("size", "1024"));
        double seconds = Double.parseDouble(args.getOrDefault("seconds", "1"));
        switch (verb) {
            case "ping":
                return answer(0, 0, 0, "");
            case "topic":
                int queues = Integer.parseInt(args.get("queues"));
                if (args.containsKey("topics")) {
                    topics(topic, Integer.parseInt(args.get("topics")), queues);
                } else {
                    topic(topic, queues);
                }
                return answer(0, 0, 0, "");
            case "first":
                return first(topic, Integer.parseInt(args.get("queues")));
            case "produce":
                return produce(names(topic, args), Integer.parseInt(args.getOrDefault("batch", "0")),
                        Integer.parseInt(args.get("in_flight")), size, seconds);
            case "fill":
                long began = System.nanoTime();
                long count = Long.parseLong(args.get("count"));
                fill(topic, size, count);
                return answer(count, 0, since(began), "");
            case "drain":
                return drain(topic, args.get("filter"), Long.parseLong(args.get("expect")),
                        Integer.parseInt(args.get("groups")));
            case "e2e":
                return endToEnd(topic, Double.parseDouble(args.get("rate")), size, seconds);
            default:
                throw new IllegalArgumentException("unknown command " + verb);
        }
    }

    /** The topic, or as many as `topics` says, whose names are the topic's and a number. */
    private static String[] names(String topic, Map<String, String> args) {
        if (!args.containsKey("topics")) {
            return new String[] {topic};
        }
        String[] names = new String[Integer.parseInt(args.get("topics"))];
        for (int i = 0; i < names.length; i++) {
            names[i] = topic + i;
        }
        return names;
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            out.append(c == '"' || c == '\\' || c < ' ' ? ' ' : c);
        }
        return out.append('"').toString();
    }

    /** Where answers go: what the libraries print must not be taken for one. */
    private static final PrintStream OUT = System.out;

    private static synchronized void say(String answer) {
        OUT.println(answer);
        OUT.flush();
    }

    /** Serves until stdin ends. */
    void serve() throws Exception {
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.trim().split("\\s+");
            Map<String, String> args = new HashMap<>();
            for (int i = 1; i < words.length; i++) {
                int at = words[i].indexOf('=');
                args.put(words[i].substring(0, at), words[i].substring(at + 1));
            }
            String answer;
            try {
                answer = obey(words[0], args);
            } catch (Throwable error) {
                error.printStackTrace();
                answer = "{\"error\":" + quoted(error.toString()) + "}";
            }
            say(answer);
        }
        System.exit(0);
    }
}
