// A spec file in which all tests have been deleted: Playwright says "No tests found".
import "appwright";
