import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;

/**
 * PostgreSQL's driver for JDBC through lastcall: what works, and what its connections see of a drain that begins when this says
 * "ready".
 *
 * <p>Where to connect is in libpq's environment variables. Whatever is not as it must be ends this with an error.
 */
final class WithJdbc {
    private static final int ROWS = 100;
    private static final int LIMIT_MS = 30_000;
    private static final ExecutorService THREADS = Executors.newCachedThreadPool();

    public static void main(String[] arguments) {
        int code = 0;
        try {
            work();
            drain();
        } catch (Throwable error) {
            error.printStackTrace();
            code = 1;
        }
        System.exit(code);
    }

    private static void drain() throws Exception {
        Connection idle = connect("idle");
        Connection cancelled = connect("cancelled");
        Statement sleeping = cancelled.createStatement();
        Future<String> error = THREADS.submit(() -> errorOf(() -> sleeping.execute("select pg_sleep(600)")));
        Connection transaction = connect("transaction");
        transaction.setAutoCommit(false);
        PreparedStatement portal = transaction.prepareStatement("select generate_series(1, ?)");
        portal.setInt(1, ROWS);
        portal.setFetchSize(10);
        ResultSet rows = portal.executeQuery();
        int read = 0;
        while (read < ROWS / 2 && rows.next()) {
            check(rows.getInt(1), ++read);
        }
        Connection running = connect("running");
        Future<String> answer = THREADS.submit(() -> {
            PreparedStatement statement = running.prepareStatement("select 'the row' from pg_sleep(?)");
            statement.setDouble(1, 3);
            return first(statement.executeQuery());
        });
        say("ready");

        // Waits for what the server says by itself.
        String told = errorOf(() -> idle.unwrap(PGConnection.class).getNotifications(LIMIT_MS));
        say("idle: " + told);
        check(idle.isValid(LIMIT_MS / 1000), false);

        sleeping.cancel();
        say("cancelled: " + error.get(LIMIT_MS, TimeUnit.MILLISECONDS) + ", then " + end(cancelled));

        while (rows.next()) {
            check(rows.getInt(1), ++read);
        }
        transaction.commit();
        say("transaction: " + read + " rows, then " + end(transaction));

        say("running: " + answer.get(LIMIT_MS, TimeUnit.MILLISECONDS) + ", then " + end(running));
    }

    /** Everything that is special about this driver, before the drain. */
    private static void work() throws Exception {
        try (Connection connection = connect("works")) {
            Statement statement = connection.createStatement();
            statement.execute("create table with_jdbc (n int)");
            // From its fifth time on it is a named statement, whose values come in binary.
            PreparedStatement types = connection.prepareStatement("select ? + 1, ?::bytea, ?::text");
            for (int n = 0; n < 10; n++) {
                types.setInt(1, n);
                types.setBytes(2, new byte[] {0, (byte) 255});
                types.setString(3, null);
                ResultSet row = types.executeQuery();
                check(row.next(), true);
                check(row.getInt(1), n + 1);
                check(Arrays.equals(row.getBytes(2), new byte[] {0, (byte) 255}), true);
                check(row.getString(3), null);
            }

            connection.setAutoCommit(false);
            statement.execute("insert into with_jdbc values (0)");
            connection.rollback();
            PreparedStatement inserts = connection.prepareStatement("insert into with_jdbc values (?)");
            for (int n = 1; n <= ROWS; n++) {
                inserts.setInt(1, n);
                inserts.addBatch();
            }
            check(IntStream.of(inserts.executeBatch()).sum(), ROWS);
            connection.commit();
            PreparedStatement bySeven = connection.prepareStatement("select n from with_jdbc order by n");
            bySeven.setFetchSize(7);
            ResultSet rows = bySeven.executeQuery();
            int read = 0;
            while (rows.next()) {
                check(rows.getInt(1), ++read);
            }
            check(read, ROWS);
            check(errorOf(() -> statement.execute("select 1 / 0")), "22012");
            connection.rollback();

            connection.setAutoCommit(true);
            var copies = connection.unwrap(PGConnection.class).getCopyAPI();
            String lines = IntStream.rangeClosed(1, ROWS).mapToObj(n -> n + "\n").collect(Collectors.joining());
            check(copies.copyIn("copy with_jdbc from stdin", new StringReader(lines)), (long) ROWS);
            StringWriter copied = new StringWriter();
            copies.copyOut("copy (select distinct n from with_jdbc order by n) to stdout", copied);
            check(copied.toString(), lines);
            // The driver's own clock cancels over a connection of its own.
            statement.setQueryTimeout(1);
            check(errorOf(() -> statement.execute("select pg_sleep(600)")), "57014");
            statement.setQueryTimeout(0);
            check(first(statement.executeQuery("select 'goes on'")), "goes on");
        }
    }

    private static Connection connect(String name) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("sslmode", System.getenv("PGSSLMODE"));
        properties.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        properties.setProperty("ApplicationName", "jdbc-" + name);
        String server = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        return DriverManager.getConnection("jdbc:postgresql://" + server + "/" + System.getenv("PGDATABASE"), properties);
    }

    /** The SQLSTATE that the next statement gets. */
    private static String end(Connection connection) throws Exception {
        String state = errorOf(() -> connection.createStatement().execute("select 1"));
        check(connection.isValid(LIMIT_MS / 1000), false);
        return state;
    }

    private static String errorOf(Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException error) {
            return error.getSQLState();
        }
        throw new AssertionError("there is no error");
    }

    private static String first(ResultSet rows) throws SQLException {
        check(rows.next(), true);
        return rows.getString(1);
    }

    private static void check(Object is, Object mustBe) {
        if (!java.util.Objects.equals(is, mustBe)) {
            throw new AssertionError(is + ", which must be " + mustBe);
        }
    }

    private static void say(String line) {
        System.out.println(line);
    }

    private interface Action {
        void run() throws Exception;
    }
}
