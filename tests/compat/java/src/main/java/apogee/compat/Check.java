package apogee.compat;

import java.time.Duration;
import java.util.Objects;

/** What a scenario demands; a failed demand ends it with a sentence. */
final class Check {
    /** How much later than due a redelivery may come on a busy machine. */
    private static final Duration LATE_MAX = Duration.ofSeconds(8);
    /** Granularity of the clocks on both sides. */
    private static final Duration EARLY_MAX = Duration.ofMillis(50);

    private Check() {
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object wanted, Object found, String what) {
        that(Objects.equals(wanted, found), what + ": wanted " + wanted + ", found " + found);
    }

    /** The time since {@code startNanos} is {@code due}, hardly less and not much more. */
    static void elapsed(long startNanos, Duration due, String what) {
        Duration elapsed = Duration.ofNanos(System.nanoTime() - startNanos);
        that(elapsed.compareTo(due.minus(EARLY_MAX)) >= 0, what + " came early, after " + elapsed);
        that(elapsed.compareTo(due.plus(LATE_MAX)) <= 0, what + " came late, after " + elapsed);
    }
}
