package apogee.compat;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * Runs every scenario of the official Java SDK at once and prints {@code PASS name} or {@code FAIL name reason}.
 *
 * <p>Usage: {@code Compat HOST:PORT plaintext|tls}. Exit code 0 when all passed, 1 otherwise, 2 when called wrongly.
 */
public final class Compat {
    /** Deadline of the whole run; scenarios run side by side, so one late one does not delay the others. */
    private static final long RUN_MAX_SECONDS = 120;

    /** One promise to users of the SDK. */
    interface Scenario {
        void run() throws Exception;
    }

    private Compat() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 2 || !(args[1].equals("plaintext") || args[1].equals("tls"))) {
            System.err.println("usage: Compat HOST:PORT plaintext|tls");
            System.exit(2);
        }
        Clients clients = new Clients(args[0], args[1].equals("tls"));
        boolean passed;
        try (Producer producer = clients.producer(); Producer undecided = TransactionScenarios.undecided(clients)) {
            Map<String, Scenario> scenarios = new LinkedHashMap<>();
            new SimpleScenarios(clients, producer).addTo(scenarios);
            new PushScenarios(clients, producer).addTo(scenarios);
            new FifoScenarios(clients, producer).addTo(scenarios);
            new LiteScenarios(clients, producer).addTo(scenarios);
            new DelayScenarios(clients, producer).addTo(scenarios);
            new PriorityScenarios(clients, producer).addTo(scenarios);
            new TransactionScenarios(clients, undecided).addTo(scenarios);
            passed = run(scenarios);
        }
        // The exit also ends threads of a scenario that overran.
        System.exit(passed ? 0 : 1);
    }

    private static boolean run(Map<String, Scenario> scenarios) throws InterruptedException {
        ExecutorService threads = Executors.newCachedThreadPool();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(RUN_MAX_SECONDS);
        Map<String, Future<?>> running = new LinkedHashMap<>();
        scenarios.forEach((name, scenario) -> running.put(name, threads.submit(() -> {
            scenario.run();
            return null;
        })));
        boolean passed = true;
        for (Map.Entry<String, Future<?>> entry : running.entrySet()) {
            String reason = reason(entry.getValue(), deadline);
            System.out.println(reason == null ? "PASS " + entry.getKey() : "FAIL " + entry.getKey() + " " + reason);
            passed &= reason == null;
        }
        return passed;
    }

    /** Why the scenario failed, or null. */
    private static String reason(Future<?> scenario, long deadline) throws InterruptedException {
        try {
            scenario.get(Math.max(0, deadline - System.nanoTime()), TimeUnit.NANOSECONDS);
            return null;
        } catch (TimeoutException late) {
            return "has not ended within " + RUN_MAX_SECONDS + " s";
        } catch (ExecutionException failed) {
            return told(failed.getCause());
        }
    }

    /** The chain of causes in one line, each with the place that is ours, if it has one. */
    private static String told(Throwable failure) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            text.append(text.length() == 0 ? "" : ", because ").append(cause);
            for (StackTraceElement frame : cause.getStackTrace()) {
                if (frame.getClassName().startsWith(Compat.class.getPackageName())) {
                    text.append(" at ").append(frame);
                    break;
                }
            }
        }
        return text.toString();
    }
}
