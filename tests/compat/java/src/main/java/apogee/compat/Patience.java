package apogee.compat;

import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientException;

/** What an application does that is up while servers die: it tries again. */
final class Patience {
    private static final long MAX_MS = TimeUnit.SECONDS.toMillis(150);
    private static final long PAUSE_MS = 100;

    private Patience() {
    }

    /**
     * Starts a client or makes a call, again when the server went away meanwhile. A client that loses its server while it
     * starts is lost with it, and the SDK says so with an {@link IllegalStateException}.
     */
    static <T> T atLast(Callable<T> attempt) throws Exception {
        long until = System.currentTimeMillis() + MAX_MS;
        while (true) {
            try {
                return attempt.call();
            } catch (ClientException | IllegalStateException away) {
                if (System.currentTimeMillis() > until) {
                    throw away;
                }
                Thread.sleep(PAUSE_MS);
            }
        }
    }

    /** The same for what returns nothing. */
    static void atLast(Action action) throws Exception {
        atLast(() -> {
            action.run();
            return null;
        });
    }

    /** Ends the program when its main thread fails, which threads of the SDK would keep from ending. */
    static void endWithMain() {
        Thread.currentThread().setUncaughtExceptionHandler((main, failure) -> {
            failure.printStackTrace();
            System.exit(1);
        });
    }

    /** What is tried. */
    interface Action {
        void run() throws Exception;
    }
}
