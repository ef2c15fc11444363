// HikariCP over JDBC as its documentation shows it. The jobs are those of application.py.

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

public class WithHikari {
    private static final int CALLERS = number("CALLERS");
    private static final String[] THINK_MS = System.getenv("THINK_MS").split("-");
    private static final String[] LONG_S = System.getenv("LONG_S").split("-");
    private static final Set<Integer> WITH_A_JOB = ConcurrentHashMap.newKeySet();
    private static volatile boolean done;

    public static void main(String[] arguments) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(String.format("jdbc:postgresql://%s:%s/%s?sslmode=disable", System.getenv("PGHOST"), System.getenv("PGPORT"),
                System.getenv("PGDATABASE")));
        config.setUsername(System.getenv("PGUSER"));
        config.setMaximumPoolSize(number("POOL"));
        config.setConnectionTimeout(number("PATIENCE_S") * 1000L);
        try (HikariDataSource pool = new HikariDataSource(config)) {
            Thread[] callers = new Thread[CALLERS];
            for (int caller = 0; caller < CALLERS; caller++) {
                int number = caller;
                callers[caller] = new Thread(() -> call(pool, number));
                callers[caller].start();
            }
            while (System.in.read() >= 0) {
            }
            done = true;
            for (Thread caller : callers) {
                caller.join();
            }
        }
    }

    private static void call(HikariDataSource pool, int caller) {
        Random random = new Random(number("FIRST_ID") + caller);
        for (long jobs = 0; !done; jobs++) {
            long id = number("FIRST_ID") + caller + CALLERS * jobs;
            boolean isLong = random.nextInt(number("ONE_IN_LONG")) == 0;
            boolean isTransaction = !isLong && random.nextInt(number("ONE_IN_TRANSACTION")) == 0;
            double sleeps = isLong ? between(random, LONG_S) : 0;
            long began = System.nanoTime();
            SQLException error = null;
            try {
                work(pool, id, isTransaction, sleeps);
            } catch (SQLException caught) {
                error = caught;
            }
            long stall = (long) ((System.nanoTime() - began) / 1e6 - sleeps * 1000);
            if (error == null) {
                say("done " + id + " " + stall);
                if (WITH_A_JOB.add(caller) && WITH_A_JOB.size() == CALLERS) {
                    say("ready");
                }
            } else {
                say("failed " + id + " " + stall + " " + error.getClass().getSimpleName() + " " + error.getSQLState() + ": "
                        + String.valueOf(error.getMessage()).split("\n")[0]);
            }
            try {
                Thread.sleep((long) between(random, THINK_MS));
            } catch (InterruptedException nobodyInterrupts) {
                return;
            }
        }
    }

    private static void work(HikariDataSource pool, long id, boolean isTransaction, double sleeps) throws SQLException {
        String text = sleeps > 0 ? "insert into jobs (id) select ? from pg_sleep(?)" : "insert into jobs (id) values (?)";
        try (Connection connection = pool.getConnection()) {
            connection.setAutoCommit(!isTransaction);
            if (isTransaction) {
                connection.createStatement().executeQuery("select 1");
            }
            try (PreparedStatement insert = connection.prepareStatement(text)) {
                insert.setLong(1, id);
                if (sleeps > 0) {
                    insert.setDouble(2, sleeps);
                }
                insert.executeUpdate();
            }
            if (isTransaction) {
                connection.commit();
            }
        }
    }

    private static double between(Random random, String[] range) {
        double least = Double.parseDouble(range[0]);
        return least + random.nextDouble() * (Double.parseDouble(range[1]) - least);
    }

    private static int number(String name) {
        return Integer.parseInt(System.getenv(name));
    }

    private static synchronized void say(String line) {
        System.out.println(line);
    }
}
