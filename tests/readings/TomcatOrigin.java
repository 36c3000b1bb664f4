import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.File;
import java.nio.file.Files;
import java.util.function.Function;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/** An origin on Tomcat that says in `x-handler` which servlet took the request, and in `x-path` what it was found by. */
public class TomcatOrigin {
    static final class Named extends HttpServlet {
        private final Function<HttpServletRequest, String> name;

        Named(Function<HttpServletRequest, String> name) {
            this.name = name;
        }

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) {
            String below = request.getPathInfo() == null ? "" : request.getPathInfo();
            response.setHeader("x-handler", name.apply(request));
            response.setHeader("x-path", request.getServletPath() + below);
        }
    }

    /** The handler for what no path of its own takes: by host. */
    static String rest(HttpServletRequest request) {
        switch (request.getServerName()) {
            case "admin.example.com":
                return "admin-host";
            case "closed.example.com":
                return "closed";
            default:
                return "open";
        }
    }

    static String reads(HttpServletRequest request) {
        boolean read = request.getMethod().equals("GET") || request.getMethod().equals("HEAD");
        return read ? "doc" : rest(request);
    }

    static Connector connector(boolean lenient) {
        Connector connector = new Connector();
        connector.setPort(0);
        connector.setProperty("address", "127.0.0.1");
        if (lenient) {
            connector.setProperty("allowBackslash", "true");
            connector.setProperty("encodedSolidusHandling", "decode");
            connector.setProperty("relaxedPathChars", "\\|<>[]^`{}");
        }
        return connector;
    }

    public static void main(String[] arguments) throws Exception {
        File base = Files.createTempDirectory("tomcat-origin").toFile();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(base.getPath());
        Context context = tomcat.addContext("", base.getPath());
        add(context, "admin", "/api/admin", request -> "admin");
        add(context, "purge", "/v1/users:purge", request -> "purge");
        add(context, "files", "/files", request -> "files");
        add(context, "doc", "/doc", TomcatOrigin::reads);
        add(context, "public", "/public",
            request -> rest(request).equals("closed") ? "public" : rest(request));
        Tomcat.addServlet(context, "rest", new Named(TomcatOrigin::rest));
        context.addServletMappingDecoded("/", "rest");
        Connector strict = connector(false);
        Connector lenient = connector(true);
        tomcat.setConnector(strict);
        tomcat.getService().addConnector(lenient);
        tomcat.start();
        System.out.println("listening on " + strict.getLocalPort() + " " + lenient.getLocalPort());
        // Ends with the one who started it.
        while (System.in.read() != -1) {}
        System.exit(0);
    }

    static void add(Context context, String name, String path, Function<HttpServletRequest, String> handler) {
        Tomcat.addServlet(context, name, new Named(handler));
        context.addServletMappingDecoded(path + "/*", name);
    }
}
