import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** Does the tasks of the bench with pgJDBC, which prepares what it runs under names at once (prepareThreshold=1). */
public class Drivers {
    /** Seconds that one task of all clients may take. */
    static final int PATIENCE = 120;

    interface Task {
        void run(Client client) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Map<String, Task> tasks = new LinkedHashMap<>();
        tasks.put("query", Client::query);
        tasks.put("prepared", Client::prepared);
        tasks.put("transaction", Client::transaction);
        tasks.put("batch", Client::batch);
        tasks.put("batch-error", Client::batchError);
        tasks.put("error", Client::error);
        tasks.put("copy", Client::copy);
        tasks.put("cancel", Client::cancel);
        tasks.put("large", Client::large);
        tasks.put("settings", Client::settings);

        List<Client> clients = new ArrayList<>();
        int count = Integer.parseInt(System.getenv("DRIVERS_CLIENTS"));
        for (int i = 0; i < count; i++) {
            clients.add(new Client("jdbc-" + i));
        }
        ExecutorService threads = Executors.newFixedThreadPool(count);
        for (Map.Entry<String, Task> task : tasks.entrySet()) {
            List<Future<?>> running = new ArrayList<>();
            for (Client client : clients) {
                running.add(threads.submit(() -> {
                    client.run(task.getValue());
                    return null;
                }));
            }
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE);
            List<String> errors = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                try {
                    running.get(i).get(Math.max(0, deadline - System.nanoTime()), TimeUnit.NANOSECONDS);
                } catch (java.util.concurrent.ExecutionException e) {
                    errors.add(clients.get(i).tag + ": " + describe(e.getCause()));
                } catch (java.util.concurrent.TimeoutException e) {
                    errors.add(clients.get(i).tag + ": not done after " + PATIENCE + " s");
                }
            }
            if (errors.isEmpty()) {
                System.out.println(task.getKey() + " pass");
            } else {
                System.out.println(task.getKey() + " fail " + errors.size() + " of " + count + " clients: " + errors.get(0));
            }
        }
        for (Client client : clients) {
            client.close();
        }
        System.exit(0);
    }

    static String describe(Throwable e) {
        String where = "";
        for (StackTraceElement at : e.getStackTrace()) {
            if (at.getClassName().startsWith("Drivers")) {
                where = " (line " + at.getLineNumber() + ")";
                break;
            }
        }
        return (e + where).replace('\n', ' ');
    }

    static void check(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("got " + brief(got) + ", want " + brief(want));
        }
    }

    static String brief(Object value) {
        String text = String.valueOf(value);
        return text.substring(0, Math.min(200, text.length()));
    }

    static class Client {
        final String tag;
        Connection conn;

        Client(String tag) {
            this.tag = tag;
        }

        /** Runs a task on the connection that the client has; whoever fails gets a new one. */
        void run(Task task) throws Exception {
            if (conn == null) {
                connect();
            }
            try {
                task.run(this);
            } catch (Throwable e) {
                close();
                throw e;
            }
        }

        void connect() throws SQLException {
            Properties p = new Properties();
            p.setProperty("user", System.getenv("DRIVERS_USER"));
            p.setProperty("password", System.getenv("DRIVERS_PASSWORD"));
            p.setProperty("ApplicationName", tag);
            p.setProperty("prepareThreshold", "1");
            p.setProperty("preparedStatementCacheQueries", "10");
            p.setProperty("sslmode", "disable");
            String ca = System.getenv("DRIVERS_CA");
            if (ca != null && !ca.isEmpty()) {
                p.setProperty("sslmode", "verify-full");
                p.setProperty("sslrootcert", ca);
            }
            String url = "jdbc:postgresql://" + System.getenv("DRIVERS_HOST") + ":" + System.getenv("DRIVERS_PORT") + "/" + System.getenv("DRIVERS_DATABASE");
            conn = DriverManager.getConnection(url, p);
        }

        void close() throws SQLException {
            if (conn != null) {
                conn.close();
                conn = null;
            }
        }

        /** Returns the rows of a query, the values of each joined by "|". */
        List<String> rows(String sql, Object... args) throws SQLException {
            try (PreparedStatement statement = conn.prepareStatement(sql)) {
                return rows(statement, args);
            }
        }

        List<String> rows(PreparedStatement statement, Object... args) throws SQLException {
            for (int i = 0; i < args.length; i++) {
                statement.setObject(i + 1, args[i]);
            }
            try (ResultSet result = statement.executeQuery()) {
                return read(result);
            }
        }

        static List<String> read(ResultSet result) throws SQLException {
            List<String> rows = new ArrayList<>();
            int columns = result.getMetaData().getColumnCount();
            while (result.next()) {
                StringBuilder row = new StringBuilder(result.getString(1));
                for (int i = 2; i <= columns; i++) {
                    row.append('|').append(result.getString(i));
                }
                rows.add(row.toString());
            }
            return rows;
        }

        void update(String sql, Object... args) throws SQLException {
            try (PreparedStatement statement = conn.prepareStatement(sql)) {
                for (int i = 0; i < args.length; i++) {
                    statement.setObject(i + 1, args[i]);
                }
                statement.executeUpdate();
            }
        }

        interface Work {
            void run() throws SQLException;
        }

        void fails(String state, Work work) throws SQLException {
            try {
                work.run();
            } catch (SQLException e) {
                if (state.equals(e.getSQLState())) {
                    return;
                }
                throw e;
            }
            throw new AssertionError("want error " + state);
        }

        void query() throws SQLException {
            for (int n = 1; n <= 20; n++) {
                List<String> want = new ArrayList<>();
                for (int i = 1; i <= n; i++) {
                    want.add(tag + "|" + i);
                }
                check(rows("select ?::text, n from generate_series(1, ?) n", tag, n), want);
                try (Statement statement = conn.createStatement();
                        ResultSet result = statement.executeQuery("select '" + tag + "', n from generate_series(1, " + n + ") n")) {
                    check(read(result), want);
                }
            }
        }

        void prepared() throws SQLException {
            try (PreparedStatement shared = conn.prepareStatement("select ?::text, ?::int * 2");
                    PreparedStatement own = conn.prepareStatement("select '" + tag + "', ?::text")) {
                for (int n = 0; n < 20; n++) {
                    check(rows(shared, tag, n), List.of(tag + "|" + 2 * n));
                    // The same text with parameters of other types is prepared anew.
                    check(rows(shared, tag, String.valueOf(n)), List.of(tag + "|" + 2 * n));
                    check(rows(own, "own"), List.of(tag + "|own"));
                    // More texts than the driver's cache holds: it closes the oldest.
                    check(rows("select ?::text, " + n, tag), List.of(tag + "|" + n));
                }
            }
            conn.setAutoCommit(false);
            try (PreparedStatement cursor = conn.prepareStatement("select ?::text, n from generate_series(0, 199) n")) {
                cursor.setFetchSize(30);
                List<String> want = new ArrayList<>();
                for (int n = 0; n < 200; n++) {
                    want.add(tag + "|" + n);
                }
                check(rows(cursor, tag), want);
                conn.commit();
            } finally {
                conn.setAutoCommit(true);
            }
        }

        void transaction() throws SQLException {
            conn.setAutoCommit(false);
            try {
                for (boolean commit : new boolean[] {false, true}) {
                    List<String> pid = rows("select pg_backend_pid()");
                    for (int n = 0; n < 3; n++) {
                        update("insert into tagged values (?, ?)", tag, n);
                    }
                    Savepoint savepoint = conn.setSavepoint();
                    update("delete from tagged where tag = ?", tag);
                    conn.rollback(savepoint);
                    check(rows("select tag, n from tagged where tag = ? order by n", tag), List.of(tag + "|0", tag + "|1", tag + "|2"));
                    check(rows("select pg_backend_pid()"), pid);
                    if (commit) {
                        conn.commit();
                    } else {
                        conn.rollback();
                    }
                    check(rows("select count(*) from tagged where tag = ?", tag), List.of(commit ? "3" : "0"));
                    conn.rollback();
                }
            } finally {
                conn.setAutoCommit(true);
            }
        }

        void batch() throws SQLException {
            String name = tag + "-batch";
            try (PreparedStatement insert = conn.prepareStatement("insert into tagged values (?, ?)")) {
                for (int n = 0; n < 1000; n++) {
                    insert.setString(1, name);
                    insert.setInt(2, n);
                    insert.addBatch();
                }
                check(Arrays.stream(insert.executeBatch()).sum(), 1000);
            }
            try (Statement statement = conn.createStatement()) {
                for (int n = 0; n < 10; n++) {
                    statement.addBatch("update tagged set body = '" + tag + "' where tag = '" + name + "' and n < " + n);
                }
                check(Arrays.stream(statement.executeBatch()).sum(), 45);
                // Several statements in one text are a pipeline of the driver's.
                boolean isRows = statement.execute("select '" + tag + "', 1; select '" + tag + "', 2; select '" + tag + "', 3");
                for (int n = 1; n <= 3; n++) {
                    check(isRows, true);
                    try (ResultSet result = statement.getResultSet()) {
                        check(read(result), List.of(tag + "|" + n));
                    }
                    isRows = statement.getMoreResults();
                }
            }
            check(rows("select ?::text, count(*) from tagged where tag = ? and body = ?", tag, name, tag), List.of(tag + "|9"));
        }

        void batchError() throws SQLException {
            String name = tag + "-batch-error";
            for (int round = 0; round < 5; round++) {
                try (PreparedStatement insert = conn.prepareStatement("insert into tagged values (?, 10 / ?)")) {
                    for (int n : new int[] {1, 2, 0, 5}) {
                        insert.setString(1, name);
                        insert.setInt(2, n);
                        insert.addBatch();
                    }
                    insert.executeBatch();
                    throw new AssertionError("the error was not reported");
                } catch (BatchUpdateException e) {
                    check(e.getSQLState(), "22012");
                }
                check(rows("select ?::text, count(*) from tagged where tag = ?", tag, name), List.of(tag + "|0"));
                try (Statement statement = conn.createStatement()) {
                    fails("22012", () -> statement.execute("select '" + tag + "'; select 1 / 0; select '" + tag + "'"));
                }
                check(rows("select ?::text, 'after'", tag), List.of(tag + "|after"));
            }
        }

        void error() throws SQLException {
            String name = tag + "-error";
            for (int round = 0; round < 5; round++) {
                fails("42601", () -> rows("selec ?", 1));
                fails("42P01", () -> rows("select * from nowhere where n = ?", 1));
                fails("22012", () -> rows("select ?::text, 1 / ?", tag, 0));
                check(rows("select ?::text, 1 / ?", tag, 1), List.of(tag + "|1"));
                conn.setAutoCommit(false);
                try {
                    update("insert into tagged values (?, 1)", name);
                    fails("23505", () -> update("insert into tagged values (?, 1)", name));
                    fails("25P02", () -> rows("select 1"));
                    conn.rollback();
                } finally {
                    conn.setAutoCommit(true);
                }
                check(rows("select ?::text, count(*) from tagged where tag = ?", tag, name), List.of(tag + "|0"));
            }
        }

        void copy() throws Exception {
            String name = tag + "-copy";
            CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < 500; n++) {
                lines.append(name).append('\t').append(n).append("\tbody ").append(name).append('\n');
            }
            check(copy.copyIn("copy tagged from stdin", new StringReader(lines.toString())), 500L);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copy.copyOut("copy (select * from tagged where tag = '" + name + "' order by n) to stdout", out);
            check(out.toString(StandardCharsets.UTF_8), lines.toString());
            try {
                copy.copyIn("copy tagged from stdin", new StringReader("no\tnumber\t\n".repeat(1000)));
                throw new AssertionError("the error was not reported");
            } catch (SQLException e) {
                check(e.getSQLState(), "22P02");
            }
            check(rows("select ?::text, count(*) from tagged where tag = ?", tag, name), List.of(tag + "|500"));
        }

        /**
         * The driver sends only one request for each query, and Postgres forgets one that comes before its query has
         * begun: then the query ends by itself, and it is tried again.
         */
        void cancel() throws Exception {
            for (int i = 0; i < 3; i++) {
                boolean ended = cancelled("select pg_sleep(10)");
                check(rows("select ?::text, 'after'", tag), List.of(tag + "|after"));
                if (ended) {
                    return;
                }
            }
            throw new AssertionError("no cancel request ended the query");
        }

        /** Reports whether a cancel request has ended a query, or that has ended by itself. */
        boolean cancelled(String sql) throws Exception {
            ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
            try (PreparedStatement sleep = conn.prepareStatement(sql)) {
                ScheduledFuture<?> again = timer.scheduleWithFixedDelay(() -> {
                    try {
                        sleep.cancel();
                    } catch (SQLException e) {
                        throw new IllegalStateException(e);
                    }
                }, 300, 300, TimeUnit.MILLISECONDS);
                try {
                    rows(sleep);
                    return false;
                } catch (SQLException e) {
                    check(e.getSQLState(), "57014");
                    return true;
                } finally {
                    again.cancel(false);
                }
            } finally {
                timer.shutdown();
                timer.awaitTermination(PATIENCE, TimeUnit.SECONDS);
            }
        }

        void large() throws SQLException {
            String body = tag + "x".repeat(1 << 20);
            check(rows("select ?::text", body), List.of(body));
            update("insert into tagged values (?, 1, ?)", tag + "-large", body);
            check(rows("select body from tagged where tag = ?", tag + "-large"), List.of(body));
        }

        void settings() throws SQLException {
            String want = tag;
            for (int n = 0; n < 10; n++) {
                check(rows("select current_setting('application_name'), ?::text", tag), List.of(want + "|" + tag));
                want = tag + "-" + n;
                try (Statement statement = conn.createStatement()) {
                    statement.execute("set application_name = '" + want + "'");
                }
            }
        }
    }
}
