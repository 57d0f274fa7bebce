import com.google.common.hash.Hashing;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.parser.SelectorParser;
import org.apache.rocketmq.remoting.protocol.filter.FilterAPI;
import org.apache.rocketmq.remoting.protocol.heartbeat.SubscriptionData;

/** Has RocketMQ's own classes judge cases from a fixed seed, and writes down what they say. */
public class Oracle {
    static final Random RANDOM = new Random(20260101);

    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[0]);
        sql(dir.resolve("sql92.ndjson"));
        java(dir.resolve("java.ndjson"));
        tags(dir.resolve("tags.ndjson"));
        selectors(dir.resolve("selectors.ndjson"));
        allocations(dir.resolve("allocations.ndjson"));
    }

    static PrintWriter open(Path path) throws Exception {
        return new PrintWriter(Files.newBufferedWriter(path, StandardCharsets.UTF_8));
    }

    // ---- SQL92

    static final String[] NAMES = {"a", "b", "c"};

    /** Values that are read in many ways; an empty one is dropped when a message is stored. */
    static final String[] VALUES = {
        "5", "-5", "+5", "0", "-0", "0.0", "-0.0", "5.0", " 5", "5d", "0x10", "0x1p3", "1e3", "NaN",
        "Infinity", "-Infinity", "2147483647", "2147483648", "-2147483648", "3000000000",
        "9223372036854775807", "9223372036854775808", "-9223372036854775808",
        "-9223372036854774784", "\uFF15", "\u0665", "true", "TRUE", "True", "false", "banana", "x",
        "xy", "it's", "5x", "\uD83D\uDE00", "\u00e9", "abc", "ABC", "100", "007", "1_000", "null",
    };

    static final String[] TEXTS = {"''", "'x'", "'5'", "'abc'", "'it''s'", "'true'", "'\uD83D\uDE00'", "'xy'", "'banana'", "'5.0'", "'b'"};
    static final String[] INTEGERS = {"0", "1", "5", "100", "2147483647", "2147483648", "3000000000", "9223372036854775807", "5L", "7l"};
    static final String[] DECIMALS = {"5.0", "5.5", ".5", "5.", "1e3", "05.0", "007e1", "1.7976931348623157e308", "4.9e-324"};

    static List<Map<String, String>> messages() {
        List<Map<String, String>> messages = new ArrayList<>();
        messages.add(Map.of());
        for (String value : VALUES) {
            messages.add(Map.of("a", value));
        }
        for (int i = 0; i < 36; i++) {
            Map<String, String> message = new LinkedHashMap<>();
            for (String name : NAMES) {
                if (RANDOM.nextInt(4) > 0) {
                    message.put(name, pick(VALUES));
                }
            }
            messages.add(message);
        }
        return messages;
    }

    static String pick(String[] of) {
        return of[RANDOM.nextInt(of.length)];
    }

    /** An operand; deeper means simpler. */
    static String operand(int depth) {
        switch (RANDOM.nextInt(depth > 2 ? 10 : 14)) {
            case 0: return pick(TEXTS);
            case 1: case 2: return pick(INTEGERS);
            case 3: return pick(DECIMALS);
            case 4: return pick(new String[] {"TRUE", "false", "NULL"});
            case 5: case 6: case 7: case 8: case 9: return pick(NAMES);
            case 10: return "-" + operand(depth + 1);
            case 11: return "+" + operand(depth + 1);
            case 12: return "NOT " + operand(depth + 1);
            default: return "(" + condition(depth + 1) + ")";
        }
    }

    static String number() {
        String number = RANDOM.nextInt(3) > 0 ? pick(INTEGERS) : pick(DECIMALS);
        return RANDOM.nextInt(4) == 0 ? "-" + number : number;
    }

    static String condition(int depth) {
        String not = RANDOM.nextInt(3) == 0 ? "NOT " : "";
        switch (RANDOM.nextInt(depth > 2 ? 9 : 13)) {
            case 0: return operand(depth + 1) + pick(new String[] {" = ", " <> "}) + operand(depth + 1);
            case 1: return operand(depth + 1) + pick(new String[] {" < ", " <= ", " > ", " >= "}) + operand(depth + 1);
            case 2: return pick(NAMES) + pick(new String[] {" = ", " <> ", " < ", " <= ", " > ", " >= "}) + number();
            case 3: return number() + pick(new String[] {" = ", " <> ", " < ", " <= ", " > ", " >= "}) + pick(NAMES);
            case 4: return pick(NAMES) + " " + not + pick(new String[] {"CONTAINS ", "startswith ", "ENDSWITH "}) + pick(TEXTS);
            case 5: return pick(NAMES) + " " + not + "IN (" + pick(TEXTS) + ", " + pick(TEXTS) + ")";
            case 6: return pick(NAMES) + " " + not + "BETWEEN " + number() + " AND " + number();
            case 7: return operand(depth + 1) + " IS " + not + "NULL";
            case 8: return operand(depth + 1) + " " + not + pick(new String[] {"CONTAINS ", "IN (", "BETWEEN "}) + pick(TEXTS);
            case 9: case 10: return condition(depth + 1) + " AND " + condition(depth + 1);
            case 11: return condition(depth + 1) + " OR " + condition(depth + 1);
            default: return "NOT (" + condition(depth + 1) + ")";
        }
    }

    static final String[] TABLE = {
        "a = 1 AND b = 5", "a = 5 OR b = 1", "NOT a = 5", "NOT (a = 5)", "NOT a > 5", "NOT a IN ('5')",
        "NOT a CONTAINS 'x'", "NOT (a CONTAINS 'x')", "a = b > 2", "1 = a", "1 <> a", "a = b", "a <> b",
        "a < b", "a >= b", "TRUE = a", "TRUE <> a", "a = TRUE", "a = FALSE", "a <> true", "a", "NOT a",
        "TRUE", "FALSE", "NULL", "NOT NULL", "NOT TRUE", "5", "'x'", "-a", "a IS NULL", "a IS NOT NULL",
        "5 IS NULL", "(a = 1) IS NULL", "a is not null is null", "a = NULL", "NULL = a", "a > 'x'",
        "a > TRUE", "a BETWEEN 9 AND 1", "a NOT BETWEEN 9 AND 1", "a BETWEEN -1 AND -9", "a BETWEEN b AND c",
        "a BETWEEN 1 AND 1.0", "a BETWEEN 2 AND 1.5", "a BETWEEN 3000000000 AND 5", "a BETWEEN 'a' AND 'b'",
        "a BETWEEN NULL AND 5", "5 BETWEEN a AND 9", "'x' BETWEEN 1 AND 2", "(a) IN ('5')", "+a IN ('5')",
        "-a IN ('5')", "'5' IN ('5')", "a IN ()", "a IN (5)", "a IN ('5', 'x', 'xy', 'abc', 'banana', 'true')",
        "5 <> -a", "-a = -b", "a = -b", "-a < 5", "a = --5", "a = - -5", "a = +5", "a = 5 -- comment\n",
        "a = 5 -- comment", "a = /* x */ 5", "a = 5 /* x", "/**/a = 5/***/", "a = 007", "a = 05.0",
        "a = 007e1", "a = 5L", "a = 5l", "a = 0L", "a = 9223372036854775808", "a = -9223372036854775808",
        "a = -9223372036854775807", "a > -2147483648", "a = -2147483648", "a = 1e400", "a = 1e308",
        "a > 5.5", "a >= 5.5", "a = 5 AND", "AND a = 5", "a = 5 b = 5", "a = 5)", "(a = 5", "a == 5", "a != 5",
        "a = \"5\"", "a = 'x", "a = ''''", "a = 'it''s'", "a CONTAINS ''", "a NOT CONTAINS ''",
        "(1 = a) CONTAINS ''", "(b > 'q') CONTAINS ''", "'abc' CONTAINS 'b'", "5 CONTAINS '5'",
        "(a = 5) CONTAINS 'x'", "a CONTAINS 'x' CONTAINS 'y'", "a CONTAINS b", "a STARTSWITH '5'",
        "a ENDSWITH 'y'", "a NOT STARTSWITH '5'", "a NOT ENDSWITH 'y'", "a contains 'X'",
        "\u00e9 = 5", "a = 5 AND \u00e9 = 5", "a = '\u00e9'", "A = '5'", "$a = 1", "_a = 1", "a.b = 5", "a:b = 5",
        "x1 = 1 OR a = 5", "1x = 5", "a = b = c", "(a = b) = TRUE", "(a = 5) = (b = 5)", "TRUE = FALSE",
        "TRUE = 5", "5 = TRUE", "'x' = TRUE", "TRUE = 'x'", "5 = 5", "5 = 5.0", "5 > 4", "3000000000 > 5",
        "3000000000 = 3000000000", "5 = '5'", "'5' = 5", "'x' = 5", "5 = 'x'", "'x' = 'x'", "'x' <> 'y'",
        "5.5 = '5.5'", "3000000000 = '5'", "'5' = 3000000000", "a = 3000000000", "a > 3000000000",
        "3000000000 < a", "a = 5 AND (b = 5 OR NOT (c = 5))", "a = 5 OR b = 5 AND c = 5", "a > 5 > 3",
        "(a > 5) > 3", "(a > 5) = TRUE", "NOT NOT a", "NOT -a", "NOT 5", "- NOT a", "-(a = 5)", "-(a = 5) IS NULL",
        "+ + a = 5", "a IS", "IS NULL", "a IS NOT", "a NOT NULL", "a NOT", "a IN", "a IN ('x'", "a IN ('x',)",
        "a BETWEEN 1", "a BETWEEN 1 OR 2", "a BETWEEN 1 AND", "not", "a and", "\t a \n=\r 5 \f", "", " ", "()",
        "a = 5;", "a % 2 = 0", "a * 2 = 10", "a LIKE 'x'", "a = 5 NOT", "a = 5 NOT b", "TAGS = 'x'",
    };

    /** Where RocketMQ refuses and we accept, or the other way round: named, so that each is listed. */
    static final String[][] DEVIATIONS = {
        {"zero-decimal", "a = 0.0"}, {"zero-decimal", "a > 0e5"}, {"zero-decimal", "a <= .0"},
        {"zero-decimal", "0.0 = a"}, {"zero-decimal", "a >= 1e-400"}, {"zero-decimal", "a <> 0."},
    };

    static void sql(Path path) throws Exception {
        List<Map<String, String>> messages = messages();
        try (PrintWriter out = open(path)) {
            List<String> all = new ArrayList<>();
            for (Map<String, String> message : messages) {
                all.add(object(message));
            }
            out.print("{\"messages\":[" + String.join(",", all) + "]}\n");
            Set<String> seen = new LinkedHashSet<>(Arrays.asList(TABLE));
            while (seen.size() < 5000) {
                String sql = condition(0);
                if (sql.length() < 200) {
                    seen.add(sql);
                }
            }
            for (String sql : seen) {
                out.print(judged(sql, messages, null));
            }
            for (String[] deviation : DEVIATIONS) {
                out.print(judged(deviation[1], messages, deviation[0]));
            }
        }
    }

    static Expression parsed(String sql) {
        try {
            return SelectorParser.parse(sql);
        } catch (Throwable refused) {
            return null;
        }
    }

    static String judged(String sql, List<Map<String, String>> messages, String deviation) {
        String line = "{\"sql\":" + text(sql);
        if (deviation != null) {
            line += ",\"deviation\":" + text(deviation);
        }
        Expression expression = parsed(sql);
        if (expression == null) {
            return line + "}\n";
        }
        // RocketMQ ignores what follows a complete expression; then this FALSE gets lost, too.
        Expression more = parsed("(" + sql + ") AND FALSE");
        if (more == null || !more.toString().endsWith("&& FALSE)")) {
            line += ",\"deviation\":\"trailing\"";
        }
        StringBuilder outcomes = new StringBuilder();
        for (Map<String, String> message : messages) {
            outcomes.append(outcome(expression, message));
        }
        return line + ",\"outcomes\":\"" + outcomes + "\"}\n";
    }

    static char outcome(Expression expression, Map<String, String> message) {
        EvaluationContext context = new EvaluationContext() {
            @Override
            public Object get(String name) {
                return message.get(name);
            }

            @Override
            public Map<String, Object> keyValues() {
                return new LinkedHashMap<>(message);
            }
        };
        try {
            Object value = expression.evaluate(context);
            if (value == null) {
                return 'n';
            }
            return value == Boolean.TRUE ? 't' : 'f';
        } catch (Throwable error) {
            return 'e';
        }
    }

    // ---- how Java reads text

    static void java(Path path) throws Exception {
        Set<String> texts = new LinkedHashSet<>(Arrays.asList(VALUES));
        texts.addAll(Arrays.asList("", "-", "+", ".", "5.", ".5", "-.5e-3", "5e", "e5", "0x", "0x1", "0x1p", "0x.8p1",
            "0x1.p1", "0x.p1", "0x1.8P-1d", "0x1p-1074", "0x1p-1075", "0x1.0000000000001p-1075", "0x1p1024",
            "0x1.fffffffffffff8p1023", "0x1.fffffffffffff7p1023", "0x1.00000000000008p0", "0x1.00000000000018p0",
            "0x1.000000000000080000001p0", "0x0.00000000000001p-1000", "0x123456789abcdef01234p0", "0xp0", "0x1p99999999999",
            "0x0p99999999999", "-0x1p3", "+0x1p3f", "0x1pd", "1e400", "1e-400", "4.9e-324", "2.4e-324", "2.5e-324",
            "1.7976931348623158e308", "1.7976931348623159e308", "9007199254740993", "123456789012345678901234567890",
            "inf", "nan", "infinity", "+NaN", "-NaN", "NaNd", "Infinityf", "5dd", "5 d", "\t5\n", "\u00005\u0001", "\u00a05",
            "0b1", "0d", "d", "f", "1f", "1L", "\uD835\uDFD3", "\u0966\u0967", "-\u0966\u0967", "\uFF0B5", "\u2212" + "5"));
        for (int unit = 0; unit < 0x10000; unit++) {
            if (Character.digit((char) unit, 10) == 7) {
                texts.add("1" + (char) unit);
            }
        }
        for (int i = 0; i < 400; i++) {
            texts.add(Double.toHexString(Double.longBitsToDouble(RANDOM.nextLong())));
            texts.add(Double.toString(Double.longBitsToDouble(RANDOM.nextLong())));
            texts.add("0x" + Long.toHexString(RANDOM.nextLong()) + "." + Long.toHexString(RANDOM.nextLong()) + "p" + (RANDOM.nextInt(2400) - 1200));
            texts.add(Long.toString(RANDOM.nextLong() >> RANDOM.nextInt(64)));
        }
        try (PrintWriter out = open(path)) {
            for (String text : texts) {
                String line = "{\"text\":" + text(text) + ",\"hash\":" + text.hashCode();
                try {
                    line += ",\"long\":" + Long.valueOf(text);
                } catch (NumberFormatException none) {
                    // Not one.
                }
                try {
                    line += ",\"double\":\"" + Long.toHexString(Double.doubleToLongBits(Double.valueOf(text))) + "\"";
                } catch (NumberFormatException none) {
                    // Not one.
                }
                out.print(line + "}\n");
            }
        }
    }

    // ---- tags

    static void tags(Path path) throws Exception {
        String[] tags = {"", "A", "B", "Aa", "BB", "*", "TagA", "A B", "\u00e9", "\uD83D\uDE00", "a", " ", "C#", "AaBB", "BBAa"};
        String[] pieces = {"A", "B", "Aa", "BB", "*", "TagA", "A B", "\u00e9", "\uD83D\uDE00", "", " ", "\t", "\u00a0A", "\u0001A", "AaBB", "A|B"};
        Set<String> expressions = new LinkedHashSet<>(Arrays.asList("", "*", " * ", "||", "||||", "|| ||", " ", "*||A", "A", "A||B",
            " A || B ", "||A", "A||", "A| |B", "A|||B"));
        while (expressions.size() < 400) {
            List<String> parts = new ArrayList<>();
            for (int i = RANDOM.nextInt(4); i >= 0; i--) {
                parts.add(pick(new String[] {"", " "}) + pick(pieces) + pick(new String[] {"", " "}));
            }
            expressions.add(String.join("||", parts));
        }
        try (PrintWriter out = open(path)) {
            List<String> quoted = new ArrayList<>();
            for (String tag : tags) {
                quoted.add(text(tag));
            }
            out.print("{\"tags\":[" + String.join(",", quoted) + "]}\n");
            for (String expression : expressions) {
                String line = "{\"expression\":" + text(expression);
                try {
                    SubscriptionData data = FilterAPI.buildSubscriptionData("t", expression);
                    boolean all = data.getSubString().equals(SubscriptionData.SUB_ALL);
                    StringBuilder outcomes = new StringBuilder();
                    for (String tag : tags) {
                        boolean named = data.getTagsSet().contains(tag) && data.getCodeSet().contains(tag.hashCode());
                        outcomes.append(all || named ? '1' : '0');
                    }
                    line += ",\"outcomes\":\"" + outcomes + "\"";
                } catch (Exception refused) {
                    // No outcomes.
                }
                out.print(line + "}\n");
            }
        }
    }

    // ---- selectors

    static List<MessageQueue> queues(int count) {
        List<MessageQueue> queues = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            queues.add(new MessageQueue("t", "broker-" + (char) ('a' + i / 8), i % 8));
        }
        return queues;
    }

    static void selectors(Path path) throws Exception {
        Set<String> keys = new LinkedHashSet<>(Arrays.asList("order-1", "polygenelubricants", "\uD83D\uDE00", "\u00e9", "a", "0"));
        while (keys.size() < 300) {
            keys.add(Long.toString(RANDOM.nextLong() >> RANDOM.nextInt(64), 36));
        }
        try (PrintWriter out = open(path)) {
            for (String key : keys) {
                List<String> hash = new ArrayList<>();
                List<String> fifo = new ArrayList<>();
                for (int count = 1; count <= 33; count++) {
                    List<MessageQueue> queues = queues(count);
                    MessageQueue chosen = new SelectMessageQueueByHash().select(queues, null, key);
                    hash.add(Integer.toString(queues.indexOf(chosen)));
                    fifo.add(Integer.toString(Hashing.consistentHash((long) key.hashCode(), count)));
                }
                out.print("{\"key\":" + text(key) + ",\"hash\":[" + String.join(",", hash) + "],\"fifo\":["
                    + String.join(",", fifo) + "]}\n");
            }
        }
    }

    // ---- allocation strategies

    static void allocations(Path path) throws Exception {
        try (PrintWriter out = open(path)) {
            for (int members = 1; members <= 9; members++) {
                for (int count = 1; count <= 33; count++) {
                    List<String> ids = ids(members);
                    List<MessageQueue> queues = queues(count);
                    allocation(out, "averagely", "", new AllocateMessageQueueAveragely(), ids, queues);
                    allocation(out, "averagely-by-circle", "", new AllocateMessageQueueAveragelyByCircle(), ids, queues);
                    if ((members + count) % 2 == 0) {
                        allocation(out, "consistent-hash", "", new AllocateMessageQueueConsistentHash(), ids, queues);
                    }
                }
            }
            for (int i = 0; i < 300; i++) {
                List<String> ids = ids(1 + RANDOM.nextInt(9));
                List<MessageQueue> queues = roomQueues(1 + RANDOM.nextInt(33), false);
                AllocateMessageQueueByMachineRoom rooms = new AllocateMessageQueueByMachineRoom();
                Set<String> allowed = new LinkedHashSet<>(RANDOM.nextBoolean() ? List.of("r1", "r2") : List.of("r1", ""));
                rooms.setConsumeridcs(allowed);
                allocation(out, "by-machine-room", String.join(",", allowed), rooms, ids, queues);
            }
            for (int i = 0; i < 300; i++) {
                List<String> ids = roomIds(1 + RANDOM.nextInt(9));
                List<MessageQueue> queues = roomQueues(1 + RANDOM.nextInt(33), true);
                boolean circle = RANDOM.nextBoolean();
                AllocateMessageQueueStrategy inner = circle ? new AllocateMessageQueueAveragelyByCircle() : new AllocateMessageQueueAveragely();
                AllocateMessageQueueStrategy nearby = new AllocateMachineRoomNearby(inner, new AllocateMachineRoomNearby.MachineRoomResolver() {
                    @Override
                    public String brokerDeployIn(MessageQueue queue) {
                        return queue.getBrokerName().split("@")[0];
                    }

                    @Override
                    public String consumerDeployIn(String id) {
                        return id.split("@")[0];
                    }
                });
                allocation(out, "machine-room-nearby", circle ? "averagely-by-circle" : "averagely", nearby, ids, queues);
            }
        }
    }

    static List<String> ids(int count) {
        Set<String> ids = new LinkedHashSet<>();
        while (ids.size() < count) {
            ids.add(pick(new String[] {"10.0.0.", "Host-", "\uFF5A", "\uD83D\uDE00"}) + RANDOM.nextInt(200) + "@" + RANDOM.nextInt(30000));
        }
        List<String> sorted = new ArrayList<>(ids);
        Collections.sort(sorted);
        return sorted;
    }

    static List<String> roomIds(int count) {
        Set<String> ids = new LinkedHashSet<>();
        while (ids.size() < count) {
            ids.add(pick(new String[] {"r1", "r2", "r3", "r5"}) + "@" + RANDOM.nextInt(200));
        }
        List<String> sorted = new ArrayList<>(ids);
        Collections.sort(sorted);
        return sorted;
    }

    static List<MessageQueue> roomQueues(int count, boolean tidy) {
        String[] brokers = tidy ? new String[] {"r1@a", "r1@b", "r2@a", "r3@a", "r4@a"}
            : new String[] {"r1@a", "r1@b@", "r2@a", "r1@a@b", "@a", "a", "r1@", "r3@a", "r2@b@@"};
        Set<MessageQueue> queues = new LinkedHashSet<>();
        while (queues.size() < count) {
            queues.add(new MessageQueue("t", pick(brokers), RANDOM.nextInt(16)));
        }
        List<MessageQueue> sorted = new ArrayList<>(queues);
        Collections.sort(sorted);
        return sorted;
    }

    static void allocation(PrintWriter out, String name, String param, AllocateMessageQueueStrategy strategy,
        List<String> ids, List<MessageQueue> queues) {
        char[] owners = new char[queues.size()];
        Arrays.fill(owners, '-');
        for (int member = 0; member < ids.size(); member++) {
            for (MessageQueue queue : strategy.allocate("g", ids.get(member), queues, ids)) {
                owners[queues.indexOf(queue)] = (char) ('0' + member);
            }
        }
        List<String> members = new ArrayList<>();
        for (String id : ids) {
            members.add(text(id));
        }
        List<String> places = new ArrayList<>();
        for (MessageQueue queue : queues) {
            places.add(text(queue.getBrokerName() + "/" + queue.getQueueId()));
        }
        out.print("{\"strategy\":" + text(name) + ",\"param\":" + text(param) + ",\"members\":[" + String.join(",", members)
            + "],\"queues\":[" + String.join(",", places) + "],\"owners\":\"" + new String(owners) + "\"}\n");
    }

    // ---- JSON

    static String object(Map<String, String> map) {
        List<String> pairs = new ArrayList<>();
        for (Map.Entry<String, String> entry : map.entrySet()) {
            pairs.add(text(entry.getKey()) + ":" + text(entry.getValue()));
        }
        return "{" + String.join(",", pairs) + "}";
    }

    static String text(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            switch (c) {
                case '"': json.append("\\\""); break;
                case '\\': json.append("\\\\"); break;
                default:
                    if (c < ' ' || c > '~') {
                        json.append(String.format("\\u%04x", (int) c));
                    } else {
                        json.append(c);
                    }
            }
        }
        return json.append('"').toString();
    }
}
